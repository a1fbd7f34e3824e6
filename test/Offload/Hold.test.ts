import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import fc from "fast-check"
import { type Evidence, LlmRateLimited, LlmSpawn } from "../../src/Job/JobError.js"
import type { JobId } from "../../src/Job.js"
import { Offload, UnknownResource } from "../../src/Offload.js"
import { captureLog, failing, type Line, service, submit, until, untilStatus } from "./harness.js"

const usedUp = (retryAfterMillis?: number, evidence: Evidence = "structured") =>
  new LlmRateLimited({ kind: "quota", retryAfterMillis, evidence, stderr: "" })

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

  it.live("is let go by hand, together with the job that found it out", () => {
    let calls = 0
    return Effect.gen(function* () {
      const offload = yield* Offload
      const job = yield* submit("first", { maxAttempts: 1 })
      yield* until(job.id, ({ attempts }) => attempts.at(-1)?.outcome === "refused")
      const next = yield* submit("next")
      expect(yield* offload.change("llm", { heldUntil: null })).toMatchObject({ heldUntil: null, permits: 2 })
      yield* untilStatus(next.id, "succeeded")
      expect(outcomes(yield* untilStatus(job.id, "succeeded"))).toEqual(["refused", "succeeded"])
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

describe("a quota that only words tell of", () => {
  const day = 24 * 3_600_000

  /** Jobs whose prompt begins with `full` are refused by words for an hour; all others succeed. */
  const wordy = service(({ input }) =>
    input.prompt.startsWith("full") ? Effect.fail(usedUp(3_600_000, "text")) : Effect.void,
  )

  const send = (caller: string, prompt: string) =>
    Effect.flatMap(Offload, (offload) =>
      offload.submit({ caller, resource: "llm", input: { prompt }, metadata: {}, maxAttempts: 1 }),
    ).pipe(Effect.map(({ snapshot }) => snapshot.job))

  const untilRefused = (id: JobId) => until(id, ({ attempts }) => attempts.at(-1)?.outcome === "refused")

  it.live("holds its own job alone, which loses no attempt and can be let go by hand", () =>
    Effect.gen(function* () {
      const offload = yield* Offload
      const refused = yield* Effect.flatMap(send("alice", "full"), ({ id }) => untilRefused(id))
      expect(refused).toMatchObject({ status: "queued", error: { tag: "LlmRateLimited" } })
      expect(Number(refused.retryAt) - Date.now()).toBeGreaterThan(3_000_000)
      yield* Effect.flatMap(send("alice", "full too"), ({ id }) => untilRefused(id))
      expect(yield* heldUntil).toBeNull()
      yield* Effect.flatMap(send("bob", "hello"), ({ id }) => untilStatus(id, "succeeded"))
      yield* offload.change("llm", { heldUntil: null })
      const again = yield* until(refused.id, ({ attempts }) => attempts.length === 2 && attempts[1]?.outcome !== null)
      expect(outcomes(again)).toEqual(["refused", "refused"])
    }).pipe(Effect.provide(wordy)),
  )

  it.live("holds the resource once a job of another caller meets it too, until that is ended by hand", () =>
    Effect.gen(function* () {
      const offload = yield* Offload
      yield* Effect.flatMap(send("alice", "full"), ({ id }) => untilRefused(id))
      yield* Effect.flatMap(send("bob", "full"), ({ id }) => untilRefused(id))
      expect(Number(yield* heldUntil) - Date.now()).toBeGreaterThan(3_000_000)
      const waiting = yield* send("carol", "hello")
      expect(waiting.status).toBe("queued")
      yield* offload.change("llm", { heldUntil: null })
      yield* untilStatus(waiting.id, "succeeded")
    }).pipe(Effect.provide(wordy)),
  )

  it.live("is believed for 24 hours at most, and not at all where its time cannot be true", () => {
    const times = [1e15, Number.POSITIVE_INFINITY, Number.NaN, -1]
    return Effect.gen(function* () {
      const offload = yield* Offload
      const jobs = yield* Effect.forEach(times, (_, index) => send("alice", String(index)))
      for (const { id } of jobs) {
        const { retryAt, status } = yield* until(id, ({ attempts }) => (attempts[0]?.outcome ?? null) !== null)
        expect(status).toBe("queued")
        expect((retryAt ?? 0) - Date.now()).toBeLessThanOrEqual(day)
      }
      expect(Number(yield* heldUntil) - Date.now()).toBeLessThanOrEqual(day)
      expect((yield* offload.list({ caller: "alice", limit: 10 })).jobs).toHaveLength(times.length)
    }).pipe(
      Effect.provide(
        service(({ input }) => Effect.fail(usedUp(times[Number(input.prompt)], "structured")), { permits: 4 }),
      ),
    )
  })
})

describe("whatever work says that it used", () => {
  it.live("leaves a job that can be read and listed, with a cost that never falls below zero", () => {
    const number = fc.oneof(fc.double(), fc.constantFrom(Number.NaN, Infinity, -Infinity, -1, 1e300, 2 ** 53 + 2))
    const usages = fc.sample(fc.record({ inputTokens: number, outputTokens: number, costUsd: number }), 50)
    return Effect.gen(function* () {
      const offload = yield* Offload
      for (const index of usages.keys()) {
        const { id } = yield* submit(String(index), { maxAttempts: 1 })
        const { usage } = yield* untilStatus(id, "failed")
        for (const value of Object.values(usage ?? {})) expect(value).toBeGreaterThanOrEqual(0)
        expect((yield* offload.get(id)).job.id).toBe(id)
      }
      expect((yield* offload.list({ caller: "test", limit: 100 })).jobs).toHaveLength(usages.length)
    }).pipe(
      Effect.provide(
        service(({ input, onUsage }) =>
          Effect.suspend(() => {
            const usage = usages[Number(input.prompt)]
            if (usage !== undefined) onUsage(usage)
            return failing()
          }),
        ),
      ),
    )
  })
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
