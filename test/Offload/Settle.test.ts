import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer } from "effect"
import type { LlmRequest } from "../../src/Llm.js"
import { Permits } from "../../src/Offload/Permits.js"
import { fork, Offload, type Settled } from "../../src/Offload.js"
import { captureLog, failing, holds, type Line, service, submit, until, untilStatus } from "./harness.js"

const jobLines = (lines: ReadonlyArray<Line>, id: string) => lines.filter(({ annotations }) => annotations.jobId === id)

describe("settle", () => {
  it.live("stores a success with its output and usage", () =>
    Effect.gen(function* () {
      const offload = yield* Offload
      const job = yield* submit("hello")
      yield* untilStatus(job.id, "succeeded")
      const { job: ended, output } = yield* offload.get(job.id)
      expect(output).toBe("hello, said twice: hello")
      expect(ended.usage).toEqual({ outputTokens: 2 })
      expect(ended.attempts).toMatchObject([{ attempt: 1, adapter: "scripted", outcome: "succeeded", cause: null }])
    }).pipe(
      Effect.provide(
        service(({ input, onText, onUsage }) =>
          Effect.sync(() => {
            onText(`${input.prompt}, `)
            onText(`said twice: ${input.prompt}`)
            onUsage({ outputTokens: 2 })
          }),
        ),
      ),
    ),
  )

  it.live("stores each failure, tries again with backoff, and fails when no attempt is left", () =>
    Effect.gen(function* () {
      const job = yield* submit("hello", { maxAttempts: 3 })
      const ended = yield* untilStatus(job.id, "failed")
      expect(ended.attempts.map(({ outcome, cause }) => [outcome, cause?.tag])).toEqual([
        ["failed", "LlmExit"],
        ["failed", "LlmExit"],
        ["failed", "LlmExit"],
      ])
      expect(ended.error).toMatchObject({ tag: "LlmExit", exitCode: 7, stderr: "it broke", retryable: true })
    }).pipe(Effect.provide(service(() => failing(7)))),
  )

  it.live("keeps the text that came before a failure", () =>
    Effect.gen(function* () {
      const offload = yield* Offload
      const job = yield* submit("hello", { maxAttempts: 1 })
      yield* untilStatus(job.id, "failed")
      expect((yield* offload.get(job.id)).output).toBe("half an ans")
    }).pipe(
      Effect.provide(
        service(({ onText }) =>
          Effect.zipRight(
            Effect.sync(() => onText("half an ans")),
            failing(),
          ),
        ),
      ),
    ),
  )

  it.live("stores a defect with its cause, and does not try again", () =>
    Effect.gen(function* () {
      const job = yield* submit("hello", { maxAttempts: 3 })
      const ended = yield* untilStatus(job.id, "failed")
      expect(ended.attempts).toHaveLength(1)
      expect(ended.error).toMatchObject({ tag: "Defect", retryable: false })
      expect(ended.error?.cause).toContain("nobody foresaw this")
    }).pipe(Effect.provide(service(() => Effect.die(new TypeError("nobody foresaw this"))))),
  )

  it.live("writes one line for each change of state, and never the prompt, the output or the stderr", () => {
    const lines: Array<Line> = []
    return Effect.gen(function* () {
      const good = yield* submit("canary-prompt")
      const bad = yield* submit("canary-prompt: fail", { maxAttempts: 2 })
      const dead = yield* submit("canary-prompt: die")
      yield* untilStatus(good.id, "succeeded")
      yield* untilStatus(bad.id, "failed")
      yield* untilStatus(dead.id, "failed")
      const messages = (id: string) => jobLines(lines, id).map(({ level, message }) => `${level} ${message}`)
      const isTold = ({ id }: { readonly id: string }) => / (succeeded|failed)$/.test(messages(id).at(-1) ?? "")
      yield* holds(() => [good, bad, dead].every(isTold))
      expect(messages(good.id)).toEqual(["INFO job queued", "INFO job running", "INFO job succeeded"])
      expect(messages(bad.id)).toEqual([
        "INFO job queued",
        "INFO job running",
        "WARN job queued again",
        "INFO job running",
        "WARN job failed",
      ])
      expect(messages(dead.id)).toEqual(["INFO job queued", "INFO job running", "ERROR job failed"])
      expect(jobLines(lines, bad.id).at(-1)?.annotations).toMatchObject({
        resource: "llm",
        attempt: 2,
        fiber: "bg-worker",
        error: "LlmExit",
      })
      expect(JSON.stringify(lines)).not.toMatch(/canary-prompt|canary-output|it broke/)
    }).pipe(
      Effect.provide(
        service(({ input, onText }) =>
          Effect.suspend(() => {
            onText("canary-output")
            if (input.prompt.endsWith("die")) return Effect.die(new Error(input.prompt))
            return input.prompt.endsWith("fail") ? failing() : Effect.succeed({})
          }),
        ).pipe(Layer.provideMerge(captureLog(lines))),
      ),
    )
  })
})

describe("cancel", () => {
  it.live("ends a running job only when its work has ended", () => {
    const release = Effect.runSync(Deferred.make<void>())
    return Effect.gen(function* () {
      const offload = yield* Offload
      const job = yield* submit("hello")
      yield* untilStatus(job.id, "running")
      const asked = yield* offload.cancel(job.id)
      expect(asked.job).toMatchObject({ status: "running", cancelRequestedAt: expect.any(Number) })
      yield* Effect.sleep(50)
      expect((yield* offload.job(job.id)).status).toBe("running")
      yield* Deferred.succeed(release, undefined)
      const ended = yield* untilStatus(job.id, "cancelled")
      expect(ended.attempts.map(({ outcome }) => outcome)).toEqual(["cancelled"])
      expect(ended.error).toBeNull()
    }).pipe(Effect.provide(service(() => Effect.onInterrupt(Effect.never, () => Deferred.await(release)))))
  })

  it.live("ends a waiting job at once, and it never runs", () => {
    const ran: Array<string> = []
    const release = Effect.runSync(Deferred.make<void>())
    return Effect.gen(function* () {
      const offload = yield* Offload
      const first = yield* submit("first")
      const second = yield* submit("second")
      expect((yield* offload.cancel(second.id)).job.status).toBe("cancelled")
      yield* Deferred.succeed(release, undefined)
      yield* untilStatus(first.id, "succeeded")
      expect((yield* offload.job(second.id)).status).toBe("cancelled")
      expect(ran).toEqual(["first"])
    }).pipe(
      Effect.provide(
        service(
          ({ input }) => {
            ran.push(input.prompt)
            return Effect.as(Deferred.await(release), {})
          },
          { permits: 1 },
        ),
      ),
    )
  })

  it.live("changes nothing on a job that has ended", () =>
    Effect.gen(function* () {
      const offload = yield* Offload
      const job = yield* submit("hello")
      const ended = yield* untilStatus(job.id, "succeeded")
      expect((yield* offload.cancel(job.id)).job).toEqual(ended)
    }).pipe(Effect.provide(service(() => Effect.succeed({})))),
  )
})

describe("fork", () => {
  it.live("refuses at run time what settle did not make, whatever the compiler was told", () =>
    Effect.gen(function* () {
      const forged = Effect.void as unknown as Settled
      const exit = yield* Effect.exit(fork(forged))
      expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("`settle` did not make")
    }).pipe(Effect.provide(Permits.layer({ llm: 2 }))),
  )
})

describe("drain", () => {
  it.live("lets a running attempt finish within its grace, and hands back the rest at no cost", () => {
    const script = ({ input }: LlmRequest) =>
      input.prompt === "long" ? Effect.never : Effect.as(Effect.sleep(100), {})
    return Effect.gen(function* () {
      const offload = yield* Offload
      const long = yield* submit("long")
      const short = yield* submit("short")
      const waiting = yield* submit("waiting")
      yield* untilStatus(long.id, "running")
      yield* untilStatus(short.id, "running")
      yield* offload.drain
      expect(yield* offload.readiness).toBe("draining")
      expect((yield* offload.job(short.id)).status).toBe("succeeded")
      expect(yield* offload.job(waiting.id)).toMatchObject({ status: "queued", attempt: 0 })
      const back = yield* offload.job(long.id)
      expect(back).toMatchObject({ status: "queued", error: null, retryAt: null })
      expect(back.attempts.map(({ outcome }) => outcome)).toEqual(["interrupted"])
    }).pipe(Effect.provide(service(script, { drain: 3000 })))
  })

  it.live("still saves what is submitted, for the next start", () =>
    Effect.gen(function* () {
      const offload = yield* Offload
      yield* offload.drain
      const job = yield* submit("late")
      expect((yield* until(job.id, () => true)).status).toBe("queued")
    }).pipe(Effect.provide(service(() => Effect.succeed({}), { drain: 0 }))),
  )
})

describe("interruption of the submitter", () => {
  it.live("leaves no saved job that never runs", () =>
    Effect.gen(function* () {
      const offload = yield* Offload
      yield* Effect.forEach(
        Array.from({ length: 200 }, (_, index) => index),
        () =>
          Effect.gen(function* () {
            const fiber = yield* Effect.fork(submit("hello"))
            yield* Effect.yieldNow()
            yield* Fiber.interrupt(fiber)
          }),
        { concurrency: 20 },
      )
      const { jobs } = yield* offload.list({ caller: "test", limit: 100 })
      yield* Effect.forEach(jobs, ({ id }) => untilStatus(id, "succeeded"))
    }).pipe(Effect.provide(service(() => Effect.succeed({})))),
  )
})
