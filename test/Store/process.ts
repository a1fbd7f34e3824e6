/** Starts `writer.ts` as a process of its own. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { Effect } from "effect"
import { build } from "esbuild"

const source = build({
  entryPoints: [fileURLToPath(new URL("writer.ts", import.meta.url))],
  bundle: true,
  write: false,
  platform: "node",
  format: "esm",
  packages: "external",
}).then(({ outputFiles }) => outputFiles[0]?.text ?? "")

/** Killed at the end of the scope. */
export const writer = (folder: string, options: { readonly write: boolean }) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const child = spawn(process.execPath, ["--input-type=module"], {
        env: { ...process.env, FOLDER: folder, WRITE: options.write ? "1" : "0" },
        stdio: ["pipe", "pipe", "inherit"],
      })
      const lines: Array<string> = []
      const output = createInterface({ input: child.stdout })
      output.on("line", (line) => lines.push(line))
      child.stdin.end(await source)
      let gone = false
      const ended = once(child, "close").then(() => {
        gone = true
      })
      return {
        pid: child.pid ?? 0,
        lines,
        /** Waits until it has printed this many lines, or has ended. */
        printed: (count: number) =>
          Effect.promise(async () => {
            while (lines.length < count && !gone) await Promise.race([once(output, "line"), ended])
          }),
        signal: (signal: NodeJS.Signals) => Effect.sync(() => child.kill(signal)),
        kill: Effect.promise(async () => {
          child.kill("SIGKILL")
          await ended
        }),
      }
    }),
    (child) => child.kill,
  )
