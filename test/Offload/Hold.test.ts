import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { LlmRateLimited, LlmSpawn } from "../../src/Job/JobError.js"
import { Offload, UnknownResource } from "../../src/Offload.js"
import { captureLog, failing, type Line, service, submit, until, untilStatus } from "./harness.js"

const usedUp = (retryAfterMillis?: number) => new LlmRateLimited({ kind: "quota", retryAfterMillis, stderr: "" })

const outcomes = (job: { readonly attempts: ReadonlyArray<{ readonly outcome: string | null }> }) =>
  job.attempts.map(({ outcome }) => outcome)

const heldUntil = Effect.flatMap(Offload, (offload) => offload.resources).pipe(
  Effect.map(([first]) => first?.heldUntil),
)

describe("a quota that is used up until a time", () => {
  it.live("holds the resource until then, and burns no attempt", () => {
    const calls: Array<number> = []
    const lines: Array<Line> = []
    return Effect.gen(function* () {
      const offload = yield* Offload
      const began = Date.now()
      const first = yield* submit("first", { maxAttempts: 1 })
      const held = yield* until(first.id, ({ attempts }) => attempts.at(-1)?.outcome === "refused")
      expect(held).toMatchObject({ status: "queued", error: { tag: "LlmRateLimited" } })
      const second = yield* submit("second", { maxAttempts: 1 })
      expect(Number(yield* heldUntil)).toBeGreaterThanOrEqual(began + 4000)
      const { queue } = yield* offload.get(second.id)
      expect(Number(queue?.expectedStartAt)).toBeGreaterThanOrEqual(began + 4000)

      const ended = yield* Effect.forEach([first, second], ({ id }) => untilStatus(id, "succeeded"))
      expect(ended.map(outcomes)).toEqual([["refused", "succeeded"], ["succeeded"]])
      // None was begun while it was held.
      expect(calls).toHaveLength(3)
      expect(Math.min(...calls.slice(1)) - began).toBeGreaterThanOrEqual(4000)
      expect(yield* heldUntil).toBeNull()
      expect(lines.filter(({ message }) => message === "resource held")).toHaveLength(1)
    }).pipe(
      Effect.provide(
        service(() =>
          Effect.suspend(() => (calls.push(Date.now()) === 1 ? Effect.fail(usedUp(4000)) : Effect.void)),
        ).pipe(Layer.provideMerge(captureLog(lines))),
      ),
    )
  })

  it.live("is let go by hand", () => {
    let calls = 0
    return Effect.gen(function* () {
      const offload = yield* Offload
      const job = yield* submit("first")
      yield* until(job.id, ({ attempts }) => attempts.at(-1)?.outcome === "refused")
      const next = yield* submit("next")
      expect(yield* offload.change("llm", { heldUntil: null })).toMatchObject({ heldUntil: null, permits: 2 })
      yield* untilStatus(next.id, "succeeded")
    }).pipe(
      Effect.provide(
        service(() => Effect.suspend(() => (calls++ === 0 ? Effect.fail(usedUp(3_600_000)) : Effect.void))),
      ),
    )
  })

  it.live("counts as a failure where no time is told", () =>
    Effect.gen(function* () {
      const job = yield* submit("hello", { maxAttempts: 2 })
      expect(outcomes(yield* untilStatus(job.id, "failed"))).toEqual(["failed", "failed"])
      expect(yield* heldUntil).toBeNull()
    }).pipe(Effect.provide(service(() => Effect.fail(usedUp())))),
  )
})

describe("a machine that has no room for a process", () => {
  it.live("puts the job back with backoff, and burns no attempt", () => {
    let calls = 0
    return Effect.gen(function* () {
      const job = yield* submit("hello", { maxAttempts: 1 })
      const ended = yield* untilStatus(job.id, "succeeded")
      expect(outcomes(ended)).toEqual(["refused", "refused", "refused", "succeeded"])
    }).pipe(
      Effect.provide(
        service(() =>
          Effect.suspend(() =>
            calls < 3
              ? Effect.fail(
                  new LlmSpawn({ command: "x", code: ["EMFILE", "ENOENT", "ECONTAIN"][calls++] ?? "", reason: "no" }),
                )
              : Effect.void,
          ),
        ),
      ),
    )
  })

  it.live("is told from arguments that no machine takes", () =>
    Effect.gen(function* () {
      const job = yield* submit("hello", { maxAttempts: 1 })
      expect(outcomes(yield* untilStatus(job.id, "failed"))).toEqual(["failed"])
    }).pipe(Effect.provide(service(() => Effect.fail(new LlmSpawn({ command: "x", code: "EINVAL", reason: "no" }))))),
  )
})

describe("the cost of a job", () => {
  it.live("is that of all its attempts: the next one gets what is left, or is not made", () => {
    const limits: Array<number | null> = []
    return Effect.gen(function* () {
      const offload = yield* Offload
      const { snapshot } = yield* offload.submit({
        caller: "test",
        input: { prompt: "hello" },
        metadata: {},
        maxAttempts: 5,
        maxCostUsd: 1,
      })
      const ended = yield* untilStatus(snapshot.job.id, "failed")
      expect(ended.error).toMatchObject({ tag: "BudgetExceeded" })
      expect(limits).toEqual([0.75, 0.5])
      expect(ended.attempts.map(({ usage }) => usage?.costUsd ?? null)).toEqual([0.5, 0.5, null])
    }).pipe(
      Effect.provide(
        service(
          ({ maxCostUsd, onUsage }) =>
            Effect.suspend(() => {
              limits.push(maxCostUsd)
              onUsage({ costUsd: 0.5 })
              return failing()
            }),
          { resources: JSON.stringify({ only: { adapter: "demo", maxCostUsd: 0.75 } }) },
        ),
      ),
    )
  })
})

describe("several resources", () => {
  const resources = JSON.stringify({
    one: { adapter: "demo", permits: 1, timeoutSeconds: 7 },
    two: { adapter: "demo" },
  })

  it.live("have their own permits and times, and the first is that of jobs that name none", () =>
    Effect.gen(function* () {
      const offload = yield* Offload
      const send = (resource?: string) =>
        Effect.map(
          offload.submit({ caller: "test", resource, input: { prompt: "hello" }, metadata: {} }),
          ({ snapshot }) => snapshot.job,
        )
      const jobs = yield* Effect.all([send(), send("one"), send("two"), send("two"), send("two")])
      expect(jobs.map(({ resource }) => resource)).toEqual(["one", "one", "two", "two", "two"])
      expect(jobs.map(({ timeoutMillis }) => timeoutMillis)).toEqual([7000, 7000, 600_000, 600_000, 600_000])
      yield* Effect.forEach([jobs[0], jobs[2], jobs[3]], ({ id }) => untilStatus(id, "running"))
      expect(yield* offload.resources).toMatchObject([
        { name: "one", permits: 1, running: 1, queued: 1 },
        { name: "two", permits: 2, running: 2, queued: 1 },
      ])
      const unknown = yield* Effect.flip(send("three"))
      expect(unknown).toEqual(new UnknownResource({ resource: "three", known: ["one", "two"] }))
      expect((yield* offload.list({ caller: "test", limit: 10 })).jobs).toHaveLength(5)
    }).pipe(Effect.provide(service(() => Effect.never, { resources }))),
  )
})
