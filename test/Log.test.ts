/** Lines of the log: what they say, and that none is lost however the process ends by itself. */
import { spawn, spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { Cause, FiberId, FiberRefs, HashMap, List, Logger, LogLevel } from "effect"
import { describe, expect, it } from "vitest"
import { line } from "../src/Log.js"
import { memoryOf } from "./e2e/memory.js"
import { waitUntil } from "./e2e/Service.js"

const options = (
  message: unknown,
  annotations: Record<string, unknown> = {},
  cause: Cause.Cause<unknown> = Cause.empty,
) => ({
  fiberId: FiberId.make(7, 0),
  logLevel: LogLevel.Info,
  message,
  cause,
  context: FiberRefs.empty(),
  spans: List.empty(),
  annotations: HashMap.fromIterable(Object.entries(annotations)),
  date: new Date(0),
})

describe("a line", () => {
  it.each([
    ["a text", options("hello")],
    ["a text in a list, as Effect gives it", options(["hello"])],
    ["several texts", options(["hello", "world"])],
    ["text that must be escaped", options('a "quoted"\nline \u2028')],
    ["annotations", options("hello", { module: "Http", attempt: 1, isLast: true, nothing: null })],
    ["an annotation that is an object", options("hello", { map: { a: [1] } })],
    ["an annotation that is undefined", options("hello", { missing: undefined })],
    ["a cause", options("hello", {}, Cause.fail(new Error("broken")))],
    ["an object as its message", options([{ a: 1 }])],
    ["an error as its message", options([new TypeError("broken")])],
  ])("says of %s what Effect's own logger says", (_, given) => {
    expect(JSON.parse(line(given))).toEqual(JSON.parse(Logger.jsonLogger.log(given)))
    expect(line(given)).not.toContain("\n")
  })
})

describe("at the end of the process", () => {
  const log = fileURLToPath(new URL("../dist/Log.js", import.meta.url))
  const lines = (end: string) => {
    const program = `
      import { Effect } from "effect"
      import { json } from ${JSON.stringify(log)}
      const work = Effect.forEach(Array.from({ length: 3000 }, (_, n) => n), (n) => Effect.logInfo("line " + n))
      Effect.runSync(Effect.provide(work, json))
      ${end}`
    const { stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", program], {
      cwd: fileURLToPath(new URL("..", import.meta.url)),
      encoding: "utf8",
      maxBuffer: 2 ** 24,
    })
    return stdout.trim().split("\n").length
  }

  it.each([
    ["by nothing left to do", ""],
    ["by process.exit", "process.exit(0)"],
    ["by an uncaught error", "throw new Error('broken')"],
    ["by an uncaught error later on", "setTimeout(() => { throw new Error('broken') }, 1)"],
  ])("every line is there: %s", (_, end) => {
    expect(lines(end)).toBe(3000)
  })
})

describe("a reader that stands still", () => {
  it("costs neither memory nor processor, and is told how many lines it missed", { timeout: 60_000 }, async () => {
    const log = fileURLToPath(new URL("../dist/Log.js", import.meta.url))
    const program = `
      import { Effect, ManagedRuntime } from "effect"
      import { json } from ${JSON.stringify(log)}
      const runtime = ManagedRuntime.make(json)
      const text = "x".repeat(1000)
      const lines = (count) => Effect.forEach(Array.from({ length: count }), () => Effect.logInfo(text), { discard: true })
      let turns = 0
      const timer = setInterval(() => {
        runtime.runSync(lines(1000))
        if (++turns === 200) { clearInterval(timer); process.stderr.write("said") }
      }, 1)
      process.stdin.on("data", () => runtime.runSync(Effect.logInfo("after")))
      process.stdin.on("end", () => process.exit(0))`
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
      cwd: fileURLToPath(new URL("..", import.meta.url)),
    })
    let said = ""
    child.stderr.on("data", (chunk) => {
      said += chunk
    })
    try {
      await waitUntil(() => said !== "")
      expect(said).toBe("said")
      // 200 MB were logged.
      expect(memoryOf(child.pid ?? 0).peak).toBeLessThan(250)
      const cpu = () => {
        const [, , ...fields] = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(" ")
        return 10 * (Number(fields[11]) + Number(fields[12]))
      }
      const before = cpu()
      await new Promise((resolve) => setTimeout(resolve, 3000))
      expect(cpu() - before).toBeLessThan(600)
      let text = ""
      child.stdout.on("data", (chunk) => {
        text += chunk
      })
      await waitUntil(() => text.includes("lines of the log were lost"))
      child.stdin.write("go on")
      await waitUntil(() => text.trim().split("\n").at(-1)?.includes("after") === true)
      const lines = text
        .trim()
        .split("\n")
        .map((each) => JSON.parse(each))
      const { annotations } = lines.at(-2)
      expect(annotations.lines + lines.length - 2).toBe(200_000)
    } finally {
      child.kill("SIGKILL")
    }
  })
})
