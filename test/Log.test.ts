/** Lines of the log: what they say, and that none is lost however the process ends by itself. */
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Cause, FiberId, FiberRefs, HashMap, List, Logger, LogLevel } from "effect"
import { describe, expect, it } from "vitest"
import { line } from "../src/Log.js"

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
