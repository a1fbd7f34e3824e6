/** The programs of `examples`, each run as its reader would: a process of its own that knows the package by its name. */
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import ts from "typescript"
import { describe, expect, it } from "vitest"

const root = resolve(import.meta.dirname, "..")

/** What an example says and how it ends. `effect-offload` is this package, because Node runs it from its root. */
const run = (name: string): Promise<{ readonly code: number | null; readonly output: string }> =>
  new Promise((done) => {
    const { outputText } = ts.transpileModule(readFileSync(resolve(root, "examples", name), "utf8"), {
      compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
    })
    const child = spawn(process.execPath, ["--input-type=module", "--eval", outputText], { cwd: root })
    let output = ""
    child.stdout.on("data", (chunk) => {
      output += chunk
    })
    child.stderr.on("data", (chunk) => {
      output += chunk
    })
    child.on("close", (code) => done({ code, output }))
  })

describe("the example", () => {
  it("own-work.ts offloads work with errors of its own", async () => {
    const { code, output } = await run("own-work.ts")
    expect(output).toContain("succeeded at attempt 2: a cup of green tea")
    expect(output).toContain("failed at attempt 1: No white tea is left.")
    expect(code).toBe(0)
  })

  it("embed-server.ts serves, asks itself by the client, drains and ends", async () => {
    const { code, output } = await run("embed-server.ts")
    expect(output).toContain("succeeded: This is the demo model of Offload")
    expect(code).toBe(0)
  }, 60_000)
})
