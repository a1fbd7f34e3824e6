import { spawn } from "node:child_process"
import { once } from "node:events"
import { readdirSync, readFileSync, readlinkSync } from "node:fs"
import { Effect, Logger } from "effect"
import { describe, expect, it } from "vitest"
import { variable } from "../../src/Llm/Marker.js"
import { watch } from "../../src/Llm/Watchdog.js"
import { waitUntil } from "./harness.js"

/** Holds the whole process up, as SIGSTOP does. */
const holdUp = (millis: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis)
}

const watchdogs = (owner: string): ReadonlyArray<string> =>
  readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(owner)
    } catch {
      return false
    }
  })

const run = <A>(use: Effect.Effect<A, unknown, never>) =>
  Effect.runPromise(use.pipe(Effect.provide(Logger.remove(Logger.defaultLogger))))

describe("the watchdog", () => {
  it("kills the attempts of a process that is held up, and says since when it has", async () => {
    const owner = `${process.pid}.9000000`
    const attempt = () =>
      spawn("sleep", ["600"], { env: { PATH: process.env.PATH, [variable]: `test:${owner}:job.1` }, stdio: "ignore" })
    await run(
      Effect.scoped(
        Effect.gen(function* () {
          const watchdog = yield* watch(owner, 2000)
          const ask = (since: bigint) => Effect.promise(() => watchdog.hasKilledSince(since))
          const before = process.hrtime.bigint()
          expect(yield* ask(before)).toBe(false)
          const child = attempt()
          const exited = once(child, "exit")
          holdUp(6000)
          const [code, signal] = yield* Effect.promise(() => exited)
          expect([code, signal]).toEqual([null, "SIGKILL"])
          // Asked at once, before its report was read: the answer comes after the report.
          expect(yield* ask(before)).toBe(true)
          expect(yield* ask(process.hrtime.bigint())).toBe(false)
          const spared = attempt()
          expect(yield* ask(before)).toBe(true)
          expect(spared.exitCode).toBe(null)
          spared.kill("SIGKILL")
        }),
      ),
    )
  })

  it("has nothing open of its service but three pipes of its own", async () => {
    const owner = `${process.pid}.9000001`
    const links = (pid: string) =>
      readdirSync(`/proc/${pid}/fd`).map((fd): readonly [string, string] => [fd, readlinkSync(`/proc/${pid}/fd/${fd}`)])
    await run(
      Effect.scoped(
        Effect.gen(function* () {
          const watchdog = yield* watch(owner, 60_000)
          // It has begun when it answers.
          yield* Effect.promise(() => watchdog.hasKilledSince(0n))
          const [pid = ""] = watchdogs(owner)
          const open = links(pid)
          for (const fd of ["0", "1", "2"])
            expect(open.find(([number]) => number === fd)?.[1]).toMatch(/^(socket|pipe):/)
          const files = open
            .map(([, target]) => target)
            .filter((target) => target.startsWith("/") && !target.startsWith("/dev/"))
          expect(files).toEqual([])
        }),
      ),
    )
    await waitUntil(() => watchdogs(owner).length === 0)
  })

  it("answers within its limit where it has been killed itself: nothing is known then", async () => {
    const owner = `${process.pid}.9000002`
    await run(
      Effect.scoped(
        Effect.gen(function* () {
          const watchdog = yield* watch(owner, 60_000)
          yield* Effect.promise(() => watchdog.hasKilledSince(0n))
          for (const pid of watchdogs(owner)) process.kill(Number(pid), "SIGKILL")
          expect(yield* Effect.promise(() => watchdog.hasKilledSince(0n))).toBe(false)
        }),
      ),
    )
  })
})
