/** What every `Store` promises. A backend's test calls it in one line. */
import { describe, expect, it } from "@effect/vitest"
import { Array as Arr, Effect, Either, Exit, Fiber, type Layer, TestClock } from "effect"
import type { NewJob, Outcome } from "../../src/Job/Transition.js"
import { isTerminal, type JobId, makeId, type Status } from "../../src/Job.js"
import { type Counts, type Create, type Limits, Store, type Submitted } from "../../src/Store.js"
import { failure, piece, roomy, submission, succeeded } from "./submission.js"

const day = 24 * 60 * 60 * 1000

/** Saves one job for each set of fields, in order. */
export const save = (...all: ReadonlyArray<Parameters<typeof submission>[0]>) =>
  Effect.flatMap(Store, (store) =>
    Effect.forEach(all, (fields) => Effect.map(store.create(submission(fields), roomy), ({ job }) => job.id)),
  )

const finish = (id: JobId) =>
  Effect.flatMap(Store, (store) =>
    Effect.zipRight(
      store.claim(id, "demo"),
      Effect.flatMap(store.get(id), ({ attempt }) => store.settle(id, attempt, succeeded)),
    ),
  )

/** Every job of these callers, by pages of `limit`. */
export const listAll = (caller: string, limit = 7, query: { status?: Status; resource?: string } = {}) =>
  Effect.gen(function* () {
    const store = yield* Store
    const jobs = []
    let cursor: string | undefined
    for (;;) {
      const page = yield* store.list({ caller, limit, cursor, ...query })
      jobs.push(...page.jobs)
      if (page.cursor === null) return jobs
      cursor = page.cursor
    }
  })

export const recount = (callers: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const counts = new Map<string, { -readonly [status in Status]: number }>()
    for (const job of (yield* Effect.forEach(callers, (caller) => listAll(caller))).flat()) {
      const row = counts.get(job.resource) ?? { queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 }
      row[job.status]++
      counts.set(job.resource, row)
    }
    return counts as ReadonlyMap<string, Counts>
  })

const withFiber = (job: NewJob, limits: Limits) => Effect.flatMap(Store, (store) => store.create(job, limits))

/** The same for what a store can only do with one. */
const withoutFiber = (job: NewJob, limits: Limits) =>
  Effect.flatMap(Effect.all([Store, Effect.clock]), ([store, clock]) =>
    Effect.async<Submitted, Effect.Effect.Error<ReturnType<Create>>>((resume) => {
      const isBegun = store.create.begin?.(job, limits, clock.unsafeCurrentTimeMillis(), resume)
      if (isBegun !== true) resume(store.create(job, limits))
    }),
  )

export const suite = (name: string, layer: Layer.Layer<Store, unknown>) => {
  const test = <A, E>(title: string, body: Effect.Effect<A, E, Store>) =>
    it.effect(title, () => Effect.provide(body, layer))

  for (const [way, create] of Object.entries({ create: withFiber, "create without a fiber": withoutFiber })) {
    describe(`${name}: ${way}`, () => {
      test(
        "saves a job and its input, queued, with one event",
        Effect.gen(function* () {
          const store = yield* Store
          yield* TestClock.setTime(5000)
          const input = { prompt: "Grüße \u0000 \ud800 🐝", model: "m", system: "s" }
          const { created, job } = yield* create(
            submission({ input, deadlineMillis: 1000, metadata: { a: "b" } }),
            roomy,
          )
          expect(created).toBe(true)
          expect(job).toMatchObject({ status: "queued", attempt: 0, sequence: 1, createdAt: 5000, deadlineAt: 6000 })
          expect(yield* store.get(job.id)).toEqual(job)
          expect(yield* store.getWithInput(job.id)).toEqual({ job, input })
          const { events } = yield* store.events(job.id, 0)
          expect(events).toEqual([{ type: "status", event: 1, at: 5000, status: "queued", attempt: 0, error: null }])
          expect((yield* Effect.either(store.get(makeId(0)))).pipe(Either.getLeft)).toMatchObject({
            value: { _tag: "JobNotFound" },
          })
        }),
      )

      test(
        "made again after an unclear failure, saves the job once",
        Effect.gen(function* () {
          const again = submission()
          const results = yield* Effect.forEach(Arr.range(1, 5), () => create(again, roomy), {
            concurrency: "unbounded",
          })
          expect(results.filter(({ created }) => created)).toHaveLength(1)
          expect(yield* listAll("ada")).toHaveLength(1)
        }),
      )

      test(
        "gives the same job for the same idempotency key, and refuses another submission with it",
        Effect.gen(function* () {
          const store = yield* Store
          const keyed = (fingerprint: string, caller = "ada") =>
            submission({ caller, idempotency: { key: "k", fingerprint } })
          const first = yield* create(keyed("f"), roomy)
          expect(yield* create(keyed("f"), { maxQueued: 0 })).toEqual({ job: first.job, created: false })
          expect(yield* Effect.flip(create(keyed("g"), roomy))).toMatchObject({
            _tag: "IdempotencyConflict",
            key: "k",
            id: first.job.id,
          })
          // Each caller has keys of its own, however the two are put together.
          expect((yield* create(keyed("g", "bob"), roomy)).created).toBe(true)
          const pair = (caller: string, key: string) =>
            create(submission({ caller, idempotency: { key, fingerprint: "f" } }), roomy)
          expect((yield* pair("a", "b\u001fc")).created).toBe(true)
          expect((yield* pair("a\u001fb", "c")).created).toBe(true)

          // However long it waits and runs, and for a day after its end.
          yield* TestClock.adjust(3 * day)
          expect((yield* create(keyed("f"), roomy)).job.id).toBe(first.job.id)
          yield* store.claim(first.job.id, "demo")
          yield* TestClock.adjust(day)
          expect((yield* create(keyed("f"), roomy)).created).toBe(false)
          yield* store.settle(first.job.id, 1, succeeded)
          yield* TestClock.adjust(day - 1)
          expect((yield* create(keyed("f"), roomy)).created).toBe(false)
          yield* TestClock.adjust(1)
          const second = yield* create(keyed("g"), roomy)
          expect(second.created).toBe(true)
          // The job that had the key before takes only its own use of it along.
          yield* store.remove(first.job.id)
          expect((yield* create(keyed("g"), roomy)).job.id).toBe(second.job.id)
        }),
      )

      test(
        "does not run a job again under its key that was removed within a day of its end",
        Effect.gen(function* () {
          const store = yield* Store
          const keyed = (key: string, fingerprint = "f") => submission({ idempotency: { key, fingerprint } })
          const ended = (key: string) =>
            Effect.gen(function* () {
              const { job } = yield* create(keyed(key), roomy)
              yield* finish(job.id)
              return job.id
            })
          const [removed, retained, other] = [yield* ended("removed"), yield* ended("retained"), yield* ended("old")]
          yield* TestClock.adjust(1000)
          yield* store.remove(removed)
          expect((yield* store.advance({ retentionMillis: 999 })).removed).toBe(2)
          for (const [key, id] of [
            ["removed", removed],
            ["retained", retained],
            ["old", other],
          ] as const) {
            expect(yield* Effect.flip(create(keyed(key), roomy))).toMatchObject({ _tag: "JobGone", key, id })
            expect(yield* Effect.flip(create(keyed(key, "g"), roomy))).toMatchObject({
              _tag: "IdempotencyConflict",
              id,
            })
          }
          yield* TestClock.adjust(day - 1001)
          yield* store.advance({ retentionMillis: 0 })
          expect(yield* Effect.flip(create(keyed("removed"), roomy))).toMatchObject({ _tag: "JobGone" })
          yield* TestClock.adjust(1)
          // Before and after what is due is done.
          const again = yield* create(keyed("removed", "g"), roomy)
          yield* store.advance({ retentionMillis: 0 })
          expect(yield* create(keyed("removed", "g"), roomy)).toMatchObject({
            created: false,
            job: { id: again.job.id },
          })
          expect((yield* create(keyed("retained"), roomy)).created).toBe(true)
        }),
      )

      test(
        "takes the fingerprint of an earlier version for the same submission",
        Effect.gen(function* () {
          const first = yield* create(submission({ idempotency: { key: "k", fingerprint: "old" } }), roomy)
          const again = (earlier: string) =>
            create(
              submission({ idempotency: { key: "k", fingerprint: "new", earlierFingerprint: () => earlier } }),
              roomy,
            )
          expect((yield* again("old")).job.id).toBe(first.job.id)
          expect(yield* Effect.flip(again("other"))).toMatchObject({ _tag: "IdempotencyConflict" })
        }),
      )

      test(
        "saves one job for 200 duplicates at once",
        Effect.gen(function* () {
          const store = yield* Store
          const results = yield* Effect.forEach(
            Arr.range(1, 200),
            () => create(submission({ idempotency: { key: "k", fingerprint: "f" } }), roomy),
            { concurrency: "unbounded" },
          )
          expect(results.filter(({ created }) => created)).toHaveLength(1)
          expect(new Set(results.map(({ job }) => job.id)).size).toBe(1)
          expect((yield* store.counts).get("llm")?.queued).toBe(1)
        }),
      )

      test(
        "tells how many wait and run, where it tells it, of a job that is new",
        Effect.gen(function* () {
          const store = yield* Store
          const first = yield* create(submission(), roomy)
          yield* store.claim(first.job.id, "demo")
          yield* create(submission({ resource: "other" }), roomy)
          const again = submission()
          const { counts, created } = yield* create(again, roomy)
          expect(created).toBe(true)
          if (counts !== undefined) expect((yield* store.counts).get("llm")).toMatchObject({ ...counts })
          if (counts !== undefined) expect(counts).toMatchObject({ queued: 1, running: 1 })
          expect(yield* create(again, roomy)).not.toHaveProperty("counts")
        }),
      )

      test(
        "stops at maxQueued, also with 200 at once, and counts jobs in backoff",
        Effect.gen(function* () {
          const store = yield* Store
          const results = yield* Effect.forEach(
            Arr.range(1, 200),
            () => Effect.either(create(submission(), { maxQueued: 7 })),
            { concurrency: "unbounded" },
          )
          expect(results.filter(Either.isRight)).toHaveLength(7)
          expect(yield* listAll("ada")).toHaveLength(7)
          const refused = yield* Effect.flip(create(submission(), { maxQueued: 7 }))
          expect(refused).toMatchObject({ _tag: "QueueFull", resource: "llm", limit: 7 })
          expect((yield* create(submission({ resource: "other" }), { maxQueued: 7 })).created).toBe(true)

          const [id] = yield* store.queued("llm", 1)
          yield* store.claim(id as JobId, "demo")
          expect((yield* create(submission(), { maxQueued: 7 })).created).toBe(true)
          yield* store.settle(id as JobId, 1, { _tag: "Failed", failure, retryAt: 99 })
          yield* Effect.flip(create(submission(), { maxQueued: 8 }))
        }),
      )

      test(
        "stops at the bytes of a caller and of all jobs, output included, and goes on when some were removed",
        Effect.gen(function* () {
          const store = yield* Store
          const sized = (caller: string) => submission({ caller, input: { prompt: "ä".repeat(5000) } })
          const limits = { ...roomy, maxBytesPerCaller: 50_000, maxBytes: 90_000 }
          const fill = (caller: string) =>
            Effect.forEach(Arr.range(1, 20), () => Effect.either(create(sized(caller), limits)), {
              concurrency: "unbounded",
            })
          const ada = (yield* fill("ada")).filter(Either.isRight)
          expect(ada).toHaveLength(4)
          const bob = (yield* fill("bob")).filter(Either.isRight)
          expect(bob).toHaveLength(4)
          const refused = (caller: string) => Effect.flip(create(sized(caller), limits))
          expect(yield* refused("ada")).toMatchObject({ _tag: "StoreFull", scope: "caller", limitBytes: 50_000 })
          expect(yield* refused("eve")).toMatchObject({ _tag: "StoreFull", scope: "store", limitBytes: 90_000 })
          expect((yield* create(submission({ caller: "eve" }), limits)).created).toBe(true)

          // What a job puts out is its caller's too, and goes with it.
          const [first, second] = ada.map(({ right }) => right.job.id) as [JobId, JobId]
          yield* store.cancel(second)
          yield* store.remove(second)
          yield* store.claim(first, "demo")
          yield* store.append(first, 1, piece("x".repeat(6000)))
          yield* store.settle(first, 1, succeeded, piece("x".repeat(6000), 6000))
          expect(yield* refused("ada")).toMatchObject({ scope: "caller" })
          yield* TestClock.adjust(10)
          expect((yield* store.advance({ retentionMillis: 1 })).removed).toBe(1)
          expect((yield* fill("ada")).filter(Either.isRight)).toHaveLength(2)
        }),
      )

      test(
        "gives back its place in the queue when it is interrupted",
        Effect.gen(function* () {
          const store = yield* Store
          yield* Effect.forEach(
            Arr.range(1, 100),
            () => Effect.flatMap(Effect.fork(create(submission(), roomy)), Fiber.interrupt),
            { concurrency: "unbounded" },
          )
          const saved = (yield* listAll("ada")).length
          expect((yield* store.counts).get("llm")?.queued ?? 0).toBe(saved)
          yield* create(submission(), { maxQueued: saved + 1 })
          yield* Effect.flip(create(submission(), { maxQueued: saved + 1 }))
        }),
      )
    })
  }

  describe(`${name}: attempts`, () => {
    test(
      "are begun once among 50 at once",
      Effect.gen(function* () {
        const store = yield* Store
        const [id] = yield* save({})
        const claims = yield* Effect.forEach(Arr.range(1, 50), () => store.claim(id as JobId, "demo"), {
          concurrency: "unbounded",
        })
        const begun = claims.flatMap((claim) => claim ?? [])
        expect(begun).toHaveLength(1)
        expect(begun[0]).toMatchObject({ job: { status: "running", attempt: 1 }, input: { prompt: "Say hello." } })
        expect(yield* store.running).toEqual([begun[0]?.job])
        expect(yield* store.orphans((carried) => carried === id)).toEqual([])
        expect(yield* store.orphans(() => false)).toEqual([{ job: begun[0]?.job, drained: false }])
      }),
    )

    test(
      "write numbered events and output, and end once",
      Effect.gen(function* () {
        const store = yield* Store
        const [id] = (yield* save({})) as [JobId]
        yield* store.claim(id, "demo")
        yield* store.append(id, 1, piece("Hel"))
        yield* store.append(id, 1, piece("", 3))
        yield* store.append(id, 1, piece("lo", 3))
        expect(yield* store.output(id)).toBe("Hello")
        const settled = yield* store.settle(id, 1, succeeded, piece("!", 5))
        expect(settled).toMatchObject({ status: "succeeded", events: 6, usage: { outputTokens: 2 }, truncated: false })
        expect(yield* store.output(id)).toBe("Hello!")
        const log = yield* store.events(id, 0)
        expect(log.job).toEqual(settled)
        expect(log.events.map(({ event, type }) => [event, type])).toEqual([
          [1, "status"],
          [2, "status"],
          [3, "output"],
          [4, "output"],
          [5, "output"],
          [6, "status"],
        ])
        expect((yield* store.events(id, 3, 2)).events.map(({ event }) => event)).toEqual([4, 5])
        expect((yield* store.events(id, 6)).events).toEqual([])
        expect((yield* store.events(id, 1e9)).events).toEqual([])

        for (const late of [
          store.settle(id, 1, succeeded, piece("late", 6)),
          store.append(id, 1, piece("late", 6)),
          store.append(id, 1, piece("", 6)),
        ]) {
          expect(yield* Effect.flip<unknown, unknown, never>(late)).toMatchObject({ _tag: "StaleAttempt", attempt: 1 })
        }
        expect(yield* store.events(id, 0)).toEqual(log)
      }),
    )

    test(
      "end once among 20 at once, beside writers",
      Effect.gen(function* () {
        const store = yield* Store
        const [id] = (yield* save({})) as [JobId]
        yield* store.claim(id, "demo")
        const results = yield* Effect.forEach(
          Arr.range(1, 40),
          (n) =>
            Effect.either(
              n % 2 === 0
                ? Effect.as(store.append(id, 1, piece(`${n};`, n * 10)), "written")
                : Effect.as(store.settle(id, 1, succeeded), "settled"),
            ),
          { concurrency: "unbounded" },
        )
        expect(results.filter((result) => Either.isRight(result) && result.right === "settled")).toHaveLength(1)
        const { events, job } = yield* store.events(id, 0)
        expect(events.map(({ event }) => event)).toEqual(Arr.range(1, job.events))
        expect(events.at(-1)).toMatchObject({ type: "status", status: "succeeded" })
      }),
    )

    test(
      "have each piece of output once, however often it is written, and whatever of it was written before",
      Effect.gen(function* () {
        const store = yield* Store
        const [id] = (yield* save({})) as [JobId]
        yield* store.claim(id, "demo")
        yield* store.append(id, 1, piece("Hel"))
        const log = yield* store.events(id, 0)
        yield* store.append(id, 1, piece("Hel"))
        yield* store.append(id, 1, piece("el", 1))
        yield* store.append(id, 1, piece("", 9))
        expect(yield* store.events(id, 0)).toEqual(log)
        // A write that seemed to fail is made again together with the text that has come since.
        yield* store.append(id, 1, piece("Hello, "))
        expect(yield* store.output(id)).toBe("Hello, ")
        expect((yield* store.events(id, 3)).events).toMatchObject([{ event: 4, type: "output", text: "lo, " }])
        yield* Effect.forEach(Arr.range(1, 20), () => store.append(id, 1, piece("wor", 7)), {
          concurrency: "unbounded",
        })
        expect(yield* store.settle(id, 1, { _tag: "Interrupted" }, piece("world", 7))).toMatchObject({ events: 7 })
        expect(yield* store.output(id)).toBe("Hello, world")
        // The next attempt begins at 0 again.
        yield* store.claim(id, "demo")
        yield* store.append(id, 2, piece("🐝"))
        // What the store has lost does not keep the rest away.
        yield* store.append(id, 2, piece("there", 99))
        yield* store.append(id, 2, piece("there!", 99))
        expect(yield* store.settle(id, 2, succeeded, piece("there!", 99))).toMatchObject({ outputEnd: 105 })
        expect(yield* store.output(id)).toBe("🐝there!")
      }),
    )

    test(
      "are begun once by a claim that is made again under its name",
      Effect.gen(function* () {
        const store = yield* Store
        const [id] = (yield* save({})) as [JobId]
        const claimed = yield* store.claim(id, "demo", { name: "one" })
        expect(claimed).toMatchObject({ job: { attempt: 1, status: "running" } })
        yield* TestClock.adjust(10)
        const again = yield* Effect.forEach(Arr.range(1, 20), () => store.claim(id, "demo", { name: "one" }), {
          concurrency: "unbounded",
        })
        expect(again).toEqual(again.map(() => claimed))
        expect(yield* store.claim(id, "demo", { name: "two" })).toBe(null)
        expect(yield* store.claim(id, "demo")).toBe(null)
        expect((yield* store.events(id, 0)).events).toHaveLength(2)
        yield* store.settle(id, 1, { _tag: "Interrupted" })
        expect(yield* store.claim(id, "demo", { name: "two" })).toMatchObject({ job: { attempt: 2 } })
        expect(yield* store.claim(id, "demo", { name: "one" })).toBe(null)
        yield* store.settle(id, 2, succeeded)
        expect(yield* store.claim(id, "demo", { name: "two" })).toBe(null)
      }),
    )

    test(
      "of an earlier number change nothing",
      Effect.gen(function* () {
        const store = yield* Store
        const [id] = (yield* save({})) as [JobId]
        yield* store.claim(id, "demo")
        yield* store.append(id, 1, piece("first"))
        expect(yield* store.settle(id, 1, { _tag: "Interrupted" }, piece("…", 5))).toMatchObject({
          status: "queued",
          error: null,
        })
        yield* store.claim(id, "demo")
        const before = yield* store.events(id, 0)
        yield* Effect.flip(store.append(id, 1, piece("stale")))
        yield* Effect.flip(store.settle(id, 1, succeeded, piece("stale")))
        expect(yield* store.events(id, 0)).toEqual(before)
        // The output is that of the newest attempt.
        expect(yield* store.output(id)).toBe("")
        yield* store.append(id, 2, piece("second"))
        expect(yield* store.output(id)).toBe("second")
        expect(before.job.attempts.map(({ outcome }) => outcome)).toEqual(["interrupted", null])
      }),
    )

    test(
      "that fail are repeated after their backoff, in the job's old place",
      Effect.gen(function* () {
        const store = yield* Store
        const [a, b, c] = (yield* save({ maxAttempts: 2 }, {}, {})) as [JobId, JobId, JobId]
        yield* store.claim(a, "demo")
        const failed = yield* store.settle(a, 1, { _tag: "Failed", failure, retryAt: 1000.5 })
        expect(failed).toMatchObject({ status: "queued", retryAt: 1000.5, error: failure })
        expect(yield* store.queued("llm", 9)).toEqual([b, c])
        expect(yield* store.ahead(a)).toBe(null)
        yield* TestClock.setTime(1000)
        expect(yield* store.advance({ retentionMillis: day })).toEqual({ ready: [], expired: [], removed: 0 })
        yield* TestClock.setTime(1001)
        expect((yield* store.advance({ retentionMillis: day })).ready.map(({ id }) => id)).toEqual([a])
        expect((yield* store.advance({ retentionMillis: day })).ready).toEqual([])
        expect(yield* store.queued("llm", 9)).toEqual([a, b, c])
        expect(yield* store.get(a)).toMatchObject({ retryAt: null, events: 3 })

        yield* store.claim(a, "demo")
        expect(yield* store.settle(a, 2, { _tag: "Failed", failure, retryAt: 0 })).toMatchObject({
          status: "failed",
          error: failure,
        })
        expect(yield* store.queued("llm", 9)).toEqual([b, c])
      }),
    )

    test(
      "whose service died use up none, make the job a suspect that is claimed alone, and fail it with the third death",
      Effect.gen(function* () {
        const store = yield* Store
        const [id] = (yield* save({ maxAttempts: 1 })) as [JobId]
        for (const attempt of [1, 2]) {
          yield* store.claim(id, "demo")
          const died = yield* store.settle(id, attempt, { _tag: "Orphaned", retryAt: 0 })
          expect(died).toMatchObject({ status: "queued", error: { tag: "Orphaned" } })
          yield* store.advance({ retentionMillis: day })
        }
        expect(yield* store.queued("llm", 9)).toEqual([id])
        expect(yield* store.claim(id, "demo")).toBe(null)
        expect(yield* store.claim(id, "demo", { alone: true })).toMatchObject({ job: { attempt: 3 } })
        expect((yield* store.get(id)).attempts.map(({ alone = false }) => alone)).toEqual([false, false, true])
        expect(yield* store.settle(id, 3, { _tag: "Orphaned", retryAt: 0 })).toMatchObject({
          status: "failed",
          error: { tag: "Orphaned", retryable: false },
        })
      }),
    )

    test(
      "that are interrupted are repeated when their outcome says so, in the job's old place",
      Effect.gen(function* () {
        const store = yield* Store
        const [a, b] = (yield* save({}, {})) as [JobId, JobId]
        yield* store.claim(a, "demo")
        const interrupted = yield* store.settle(a, 1, { _tag: "Interrupted", retryAt: 1000 })
        expect(interrupted).toMatchObject({ status: "queued", retryAt: 1000, error: null })
        expect(yield* store.queued("llm", 9)).toEqual([b])
        yield* TestClock.setTime(1000)
        expect((yield* store.advance({ retentionMillis: day })).ready.map(({ id }) => id)).toEqual([a])
        expect(yield* store.queued("llm", 9)).toEqual([a, b])
      }),
    )

    test(
      "of a process that drains are drained orphans, and it begins no more of them",
      Effect.gen(function* () {
        const store = yield* Store
        const [a, b] = (yield* save({}, {})) as [JobId, JobId]
        const claimed = yield* store.claim(a, "demo", { name: "one" })
        yield* store.drain
        yield* store.drain
        expect(yield* store.claim(b, "demo")).toBe(null)
        expect((yield* store.get(b)).status).toBe("queued")
        // A claim that was made before is told again: its attempt must be handed back.
        expect(yield* store.claim(a, "demo", { name: "one" })).toEqual(claimed)
        expect(yield* store.orphans(() => false)).toEqual([{ job: claimed?.job, drained: true }])
        expect(yield* store.settle(a, 1, succeeded)).toMatchObject({ status: "succeeded" })
        expect(yield* store.orphans(() => false)).toEqual([])
      }),
    )

    test(
      "that fail for good end the job",
      Effect.gen(function* () {
        const store = yield* Store
        const [id] = (yield* save({})) as [JobId]
        yield* store.claim(id, "demo")
        const final = { ...failure, retryable: false, cause: "why" }
        const settled = yield* store.settle(id, 1, { _tag: "Failed", failure: final, retryAt: 0 }, piece("part"))
        expect(settled).toMatchObject({
          status: "failed",
          error: final,
          attempts: [{ outcome: "failed", cause: final }],
        })
        expect((yield* store.events(id, 0)).events.at(-1)).toMatchObject({ status: "failed", error: final })
        expect(yield* store.output(id)).toBe("part")
      }),
    )

    test(
      "put out more than one read takes",
      Effect.gen(function* () {
        const store = yield* Store
        const [id] = (yield* save({})) as [JobId]
        yield* store.claim(id, "demo")
        const texts = Arr.range(1, 600).map((n) => `${n},`.padStart(4))
        yield* Effect.forEach(texts, (text, n) => store.append(id, 1, piece(text, n * 4)))
        expect(yield* store.output(id)).toBe(texts.join(""))
        expect((yield* store.events(id, 0, 500)).events).toHaveLength(500)
      }),
    )
  })

  describe(`${name}: ends`, () => {
    test(
      "cancel ends a queued job, asks a running one, and leaves an ended one alone",
      Effect.gen(function* () {
        const store = yield* Store
        const [queued, running] = (yield* save({}, {})) as [JobId, JobId]
        yield* TestClock.setTime(10)
        const ended = yield* store.cancel(queued)
        expect(ended).toMatchObject({ status: "cancelled", finishedAt: 10, cancelRequestedAt: 10, events: 2 })
        yield* store.claim(running, "demo")
        expect(yield* store.cancel(running)).toMatchObject({ status: "running", cancelRequestedAt: 10, events: 2 })
        yield* TestClock.setTime(20)
        expect(yield* store.cancel(queued)).toEqual(ended)
        expect(yield* store.cancel(running)).toMatchObject({ status: "running", cancelRequestedAt: 10 })
        expect(yield* store.settle(running, 1, { _tag: "Interrupted" })).toMatchObject({ status: "cancelled" })
        expect(yield* store.queued("llm", 9)).toEqual([])
        expect(yield* store.claim(queued, "demo")).toBe(null)
        yield* Effect.flip(store.cancel(makeId(0)))
      }),
    )

    test(
      "a deadline ends a queued job, and keeps it from being claimed before",
      Effect.gen(function* () {
        const store = yield* Store
        const [late, running, retried] = (yield* save(
          { deadlineMillis: 100 },
          { deadlineMillis: 100 },
          { deadlineMillis: 100 },
        )) as [JobId, JobId, JobId]
        yield* store.claim(running, "demo")
        yield* store.claim(retried, "demo")
        yield* store.settle(retried, 1, { _tag: "Failed", failure, retryAt: 99 })
        yield* TestClock.setTime(100)
        expect(yield* store.claim(late, "demo")).toBe(null)
        const { expired, ready } = yield* store.advance({ retentionMillis: day })
        expect(ready).toEqual([])
        expect(new Set(expired.map(({ id }) => id))).toEqual(new Set([late, retried]))
        expect(yield* store.get(late)).toMatchObject({ status: "failed", error: { tag: "Expired" }, finishedAt: 100 })
        expect(yield* store.get(running)).toMatchObject({ status: "running" })
        expect(yield* store.advance({ retentionMillis: day })).toEqual({ ready: [], expired: [], removed: 0 })
      }),
    )

    test(
      "release lets those jobs of a resource go that wait because of a refusal, however far away their time is",
      Effect.gen(function* () {
        const store = yield* Store
        const [refused, forEver, asked, failed, elsewhere, ready] = (yield* save(
          {},
          {},
          {},
          {},
          { resource: "other" },
          {},
        )) as [JobId, JobId, JobId, JobId, JobId, JobId]
        const end = (id: JobId, outcome: Outcome) =>
          Effect.zipRight(store.claim(id, "demo"), store.settle(id, 1, outcome))
        yield* end(refused, { _tag: "Refused", failure, retryAt: day })
        yield* end(forEver, { _tag: "Refused", failure, retryAt: 8.64e18 })
        yield* end(asked, { _tag: "Failed", failure: { ...failure, retryAfterMillis: day }, retryAt: day })
        yield* end(failed, { _tag: "Failed", failure, retryAt: 100 })
        yield* end(elsewhere, { _tag: "Refused", failure, retryAt: day })
        expect((yield* store.list({ caller: "ada", limit: 10 })).jobs).toHaveLength(6)

        const { events } = yield* store.get(refused)
        let released = 0
        let cursor: string | null | undefined
        while (cursor !== null) {
          const page = yield* store.release({ resource: "llm", limit: 1, cursor })
          released += page.released
          cursor = page.cursor
        }
        expect(released).toBe(3)
        expect(yield* store.queued("llm", 10)).toEqual([refused, forEver, asked, ready])
        expect(yield* store.queued("other", 10)).toEqual([])
        // Waiting longer or shorter is no new state: its log has nothing new.
        expect(yield* store.get(refused)).toMatchObject({ status: "queued", retryAt: null, events })
        expect(yield* store.release({ resource: "llm" })).toEqual({ released: 0, cursor: null })
        expect(yield* store.claim(refused, "demo")).toMatchObject({ job: { attempt: 2 } })
        yield* TestClock.setTime(100)
        expect((yield* store.advance({ retentionMillis: day })).ready.map(({ id }) => id)).toEqual([failed])
      }),
    )

    test(
      "a backoff that a clock set which was ahead takes its own time again, and others go on",
      Effect.gen(function* () {
        const store = yield* Store
        const [short, long, right] = (yield* save({}, {}, {})) as [JobId, JobId, JobId]
        const fail = (id: JobId, retryAt: number) =>
          Effect.zipRight(store.claim(id, "demo"), store.settle(id, 1, { _tag: "Failed", failure, retryAt }))
        yield* TestClock.setTime(10_000)
        yield* fail(right, 15_000)
        yield* TestClock.setTime(day)
        yield* fail(short, day + 2000)
        yield* fail(long, 3 * day)
        expect(yield* store.shorten({})).toEqual({ released: 0, cursor: null })
        // Two clocks are never quite the same.
        yield* TestClock.setTime(day - 1000)
        expect(yield* store.shorten({})).toEqual({ released: 0, cursor: null })
        yield* TestClock.setTime(12_000)
        let shortened = 0
        let cursor: string | null | undefined
        while (cursor !== null) {
          const page = yield* store.shorten({ limit: 1, cursor })
          shortened += page.released
          cursor = page.cursor
        }
        expect(shortened).toBe(2)
        const retryAts = Effect.forEach([short, long, right], (id) =>
          Effect.map(store.get(id), ({ retryAt }) => retryAt),
        )
        expect(yield* retryAts).toEqual([14_000, 12_000 + 2 * day, 15_000])
        // It waits on, which is no new state.
        expect((yield* store.get(short)).events).toBe(3)
        yield* TestClock.setTime(14_000)
        expect((yield* store.advance({ retentionMillis: 2 * day })).ready.map(({ id }) => id)).toEqual([short])
      }),
    )

    test(
      "remove takes an ended job with all its traces, and no other",
      Effect.gen(function* () {
        const store = yield* Store
        const idempotency = { key: "k", fingerprint: "f" }
        const [id, other] = (yield* save({ idempotency }, {})) as [JobId, JobId]
        expect(yield* Effect.flip(store.remove(id))).toMatchObject({ _tag: "JobNotTerminal", id })
        yield* finish(id)
        yield* store.remove(id)
        for (const gone of [
          store.get(id),
          store.getWithInput(id),
          store.events(id, 0),
          store.output(id),
          store.remove(id),
        ]) {
          expect(yield* Effect.flip<unknown, unknown, never>(gone)).toMatchObject({ _tag: "JobNotFound", id })
        }
        expect((yield* listAll("ada")).map(({ id }) => id)).toEqual([other])
        expect((yield* store.counts).get("llm")).toMatchObject({ queued: 1, succeeded: 0 })
        expect(yield* Effect.flip(store.create(submission({ idempotency }), roomy))).toMatchObject({
          _tag: "JobGone",
          id,
        })
        // Nothing of it comes back under the same id.
        expect((yield* store.create(submission({ id }), roomy)).job.events).toBe(1)
        expect((yield* store.events(id, 0)).events).toHaveLength(1)
      }),
    )

    test(
      "retention removes what ended before it, also when it is made shorter, at most `limit` at once",
      Effect.gen(function* () {
        const store = yield* Store
        const ids = yield* save({}, {}, {}, {})
        for (const id of ids.slice(0, 3)) {
          yield* TestClock.adjust(1000)
          yield* finish(id)
        }
        yield* TestClock.setTime(day)
        expect((yield* store.advance({ retentionMillis: day - 1000 })).removed).toBe(0)
        expect((yield* store.advance({ retentionMillis: day - 1001 })).removed).toBe(1)
        expect((yield* store.advance({ retentionMillis: 0, limit: 1 })).removed).toBe(1)
        expect((yield* store.advance({ retentionMillis: 0 })).removed).toBe(1)
        expect((yield* listAll("ada")).map(({ id }) => id)).toEqual([ids[3]])
      }),
    )
  })

  describe(`${name}: deliveries`, () => {
    const webhook = (delivery: JobId) => ({ url: "https://example.com/", delivery, maxAttempts: 4, timeoutMillis: 10 })

    /** A job with a webhook, and the id of its delivery. */
    const withWebhook = (fields: Parameters<typeof submission>[0] = {}) =>
      Effect.gen(function* () {
        const delivery = makeId(0)
        const [id] = (yield* save({ webhook: webhook(delivery), ...fields })) as [JobId]
        return { id, delivery }
      })

    test(
      "are saved once, in the write that ends their job, whatever ends it",
      Effect.gen(function* () {
        const store = yield* Store
        const expected: Array<JobId> = []
        /** Ends a job with a webhook, and looks at what there is at the moment at which its end can be read. */
        const ends = (
          status: Status,
          fields: Parameters<typeof submission>[0],
          end: (id: JobId) => Effect.Effect<unknown, unknown, Store>,
        ) =>
          Effect.gen(function* () {
            const { delivery, id } = yield* withWebhook(fields)
            const seen = yield* Effect.fork(
              Effect.gen(function* () {
                for (;;) {
                  // Read before its job, which may end between the two.
                  const found = yield* Effect.either(store.get(delivery))
                  const job = yield* store.get(id)
                  if (isTerminal(job.status)) return yield* store.get(delivery)
                  expect(found).toMatchObject({ left: { _tag: "JobNotFound" } })
                  yield* store.awaitEvent(id, job.events)
                }
              }),
            )
            yield* Effect.yieldNow()
            yield* end(id)
            expected.push(delivery)
            const job = yield* store.get(id)
            expect(job.status).toBe(status)
            expect(yield* Fiber.join(seen)).toMatchObject({
              id: delivery,
              resource: "webhooks",
              caller: "ada",
              status: "queued",
              maxAttempts: 4,
              timeoutMillis: 10,
              deliveryOf: { id, url: "https://example.com/" },
              webhook: null,
            })
            const { input } = yield* store.getWithInput(delivery)
            expect(JSON.parse(input.prompt)).toMatchObject({ type: `job.${status}`, data: { id, status } })
            expect((yield* store.events(delivery, 0)).events).toMatchObject([{ event: 1, status: "queued" }])
            expect(yield* store.queued("webhooks", 99)).toEqual(expected)
          })

        yield* ends("succeeded", {}, (id) =>
          Effect.gen(function* () {
            yield* finish(id)
            yield* Effect.flip(store.settle(id, 1, succeeded))
            yield* store.cancel(id)
          }),
        )
        yield* ends("failed", { maxAttempts: 2 }, (id) =>
          Effect.gen(function* () {
            yield* store.claim(id, "demo")
            yield* store.settle(id, 1, { _tag: "Failed", failure, retryAt: 0 })
            yield* store.advance({ retentionMillis: day })
            yield* store.claim(id, "demo")
            yield* store.settle(id, 2, { _tag: "Failed", failure, retryAt: 0 })
          }),
        )
        yield* ends("cancelled", {}, (id) => Effect.zipRight(store.cancel(id), store.cancel(id)))
        yield* ends("cancelled", {}, (id) =>
          Effect.gen(function* () {
            yield* store.claim(id, "demo")
            yield* store.cancel(id)
            yield* store.settle(id, 1, { _tag: "Interrupted" })
          }),
        )
        yield* ends("failed", { deadlineMillis: 100 }, () =>
          Effect.gen(function* () {
            yield* TestClock.adjust(100)
            yield* store.advance({ retentionMillis: day })
            yield* store.advance({ retentionMillis: day })
          }),
        )
        expect((yield* store.counts).get("webhooks")?.queued).toBe(5)
      }),
    )

    test(
      "are listed where they are asked for alone, and are no part of a caller's limit",
      Effect.gen(function* () {
        const store = yield* Store
        const { delivery, id } = yield* withWebhook()
        yield* store.cancel(id)
        expect((yield* listAll("ada")).map(({ id }) => id)).toEqual([id])
        expect((yield* listAll("ada", 7, { status: "queued" })).map(({ id }) => id)).toEqual([])
        expect((yield* listAll("ada", 7, { resource: "webhooks" })).map(({ id }) => id)).toEqual([delivery])
        expect(yield* listAll("bob", 7, { resource: "webhooks" })).toEqual([])
        yield* store.create(submission(), { maxQueued: 1, maxQueuedPerCaller: 1 })
        yield* Effect.flip(store.create(submission(), { maxQueued: 9, maxQueuedPerCaller: 1 }))
      }),
    )

    test(
      "live on their own: their job may be removed before them, and they before it",
      Effect.gen(function* () {
        const store = yield* Store
        const { delivery, id } = yield* withWebhook()
        yield* finish(id)
        yield* store.remove(id)
        const claimed = yield* store.claim(delivery, "webhook")
        expect(JSON.parse(claimed?.input.prompt ?? "")).toMatchObject({ data: { id } })
        expect(yield* store.settle(delivery, 1, succeeded)).toMatchObject({ status: "succeeded" })
        expect(yield* store.queued("webhooks", 9)).toEqual([])
        yield* store.remove(delivery)
        expect((yield* store.counts).size).toBe(0)
      }),
    )

    test(
      "that failed or were cancelled are queued again, with all of their attempts; nothing else is",
      Effect.gen(function* () {
        const store = yield* Store
        const { delivery, id } = yield* withWebhook()
        yield* finish(id)
        const job = yield* store.get(id)
        expect(yield* store.redeliver(id)).toEqual(job)
        const queued = yield* store.get(delivery)
        expect(yield* store.redeliver(delivery)).toEqual(queued)
        const failAll = (from: number) =>
          Effect.forEach([1, 2, 3, 4], (n) =>
            Effect.gen(function* () {
              const claimed = yield* store.claim(delivery, "webhook")
              expect(claimed?.job.attempt).toBe(from + n)
              const ended = yield* store.settle(delivery, from + n, { _tag: "Failed", failure, retryAt: 0 })
              yield* store.advance({ retentionMillis: 1000 })
              return ended.status
            }),
          )
        expect(yield* failAll(0)).toEqual(["queued", "queued", "queued", "failed"])
        yield* TestClock.setTime(10)
        const again = yield* store.redeliver(delivery)
        expect(again).toMatchObject({ id: delivery, status: "queued", attempt: 4, finishedAt: null, retryAt: null })
        expect(yield* store.get(delivery)).toEqual(again)
        expect(yield* store.redeliver(delivery)).toEqual(again)
        expect((yield* store.events(delivery, 0)).events.at(-1)).toMatchObject({ status: "queued", at: 10, attempt: 4 })
        expect((yield* store.counts).get("webhooks")).toMatchObject({ queued: 1, failed: 0 })
        // It waits for a receiver, and no longer for the end of its retention.
        yield* TestClock.setTime(5000)
        expect(yield* store.advance({ retentionMillis: 1000 })).toMatchObject({ removed: 1 })
        expect(yield* store.queued("webhooks", 9)).toEqual([delivery])
        expect(yield* failAll(4)).toEqual(["queued", "queued", "queued", "failed"])
        yield* store.redeliver(delivery)
        yield* store.cancel(delivery)
        expect(yield* store.redeliver(delivery)).toMatchObject({ status: "queued", cancelRequestedAt: null })
        yield* store.claim(delivery, "webhook")
        const ended = yield* store.settle(delivery, 9, succeeded)
        expect(yield* store.redeliver(delivery)).toEqual(ended)
        yield* Effect.flip(store.redeliver(makeId(0)))
      }),
    )
  })

  describe(`${name}: reads`, () => {
    test(
      "list gives the newest first, by resource and status, while jobs come and go",
      Effect.gen(function* () {
        const store = yield* Store
        const ids = yield* save(...Arr.makeBy(20, (n) => ({ resource: n % 3 === 0 ? "a" : "b" })), { caller: "bob" })
        yield* finish(ids[4] as JobId)
        yield* store.cancel(ids[5] as JobId)
        const mine = ids.slice(0, 20).toReversed()
        expect((yield* listAll("ada", 3)).map(({ id }) => id)).toEqual(mine)
        expect((yield* listAll("ada", 20)).map(({ id }) => id)).toEqual(mine)
        expect((yield* listAll("ada", 3, { status: "succeeded" })).map(({ id }) => id)).toEqual([ids[4]])
        expect((yield* listAll("ada", 4, { resource: "a" })).map(({ id }) => id)).toEqual(
          ids
            .slice(0, 20)
            .filter((_, n) => n % 3 === 0)
            .toReversed(),
        )
        expect((yield* listAll("ada", 3, { resource: "b", status: "cancelled" })).map(({ id }) => id)).toEqual([ids[5]])
        expect(yield* listAll("eve")).toEqual([])
        expect(yield* listAll("ad")).toEqual([])

        const first = yield* store.list({ caller: "ada", limit: 5 })
        yield* save({}, {})
        yield* store.cancel(first.jobs[4]?.id as JobId)
        yield* store.remove(first.jobs[4]?.id as JobId)
        const second = yield* store.list({ caller: "ada", limit: 5, cursor: first.cursor ?? undefined })
        expect(second.jobs.map(({ id }) => id)).toEqual(mine.slice(5, 10))
        const page = yield* store.list({ caller: "ada", limit: 2 })
        for (const cursor of ["", "%", "x", Buffer.from("-1").toString("base64url")]) {
          expect(yield* store.list({ caller: "ada", limit: 2, cursor })).toEqual(page)
        }
      }),
    )

    test(
      "a caller has its own limit of queued jobs, over all resources",
      Effect.gen(function* () {
        const store = yield* Store
        const limits = { maxQueued: 10, maxQueuedPerCaller: 2 }
        const create = (caller: string, resource: string) =>
          Effect.either(store.create(submission({ id: makeId(0), caller, resource }), limits))
        const made = yield* Effect.all(
          [create("ada", "a"), create("ada", "b"), create("ada", "a"), create("bob", "a")],
          { concurrency: "unbounded" },
        )
        expect(made.map(({ _tag }) => _tag)).toEqual(["Right", "Right", "Left", "Right"])
        expect(yield* Effect.flip(made[2])).toMatchObject({ _tag: "QueueFull", scope: "caller", limit: 2 })
        const [first] = yield* store.queued("a", 1)
        yield* store.claim(first as JobId, "demo")
        expect((yield* create("ada", "a"))._tag).toBe("Right")
      }),
    )

    test(
      "queued gives callers in turn, and ahead says how many come before",
      Effect.gen(function* () {
        const store = yield* Store
        const ids = yield* save(
          ...["ada", "ada", "ada", "bob", "ada", "bob", "caller\u0000 ü%", "ada"].map((caller) => ({ caller })),
          { caller: "bob", resource: "other" },
        )
        const order = [0, 3, 6, 1, 5, 2, 4, 7].map((n) => ids[n] as JobId)
        for (let limit = 0; limit < 10; limit++) {
          expect(yield* store.queued("llm", limit)).toEqual(order.slice(0, limit))
        }
        expect(yield* Effect.forEach(order, (id) => store.ahead(id))).toEqual(order.map((_, n) => n))
        expect(yield* store.ahead(ids[8] as JobId)).toBe(0)
        // Who had no turn yet comes first, then who had it the longest ago.
        const last = new Map([
          ["ada", 1],
          ["bob", 2],
        ])
        expect(yield* store.queued("llm", 4, { last })).toEqual([6, 0, 3, 1].map((n) => ids[n]))
        expect(yield* store.queued("llm", 1, { last: new Map([["ada", 1]]) })).toEqual([ids[3]])
        expect(yield* store.ahead(ids[0] as JobId, { last })).toBe(1)
        expect(yield* store.ahead(ids[3] as JobId, { last })).toBe(2)
        const without = new Set(["ada", "caller\u0000 ü%"])
        expect(yield* store.queued("llm", 9, { skip: without })).toEqual([ids[3], ids[5]])
        expect(yield* store.queued("none", 5)).toEqual([])
        expect(yield* store.queued("ll", 5)).toEqual([])
        yield* store.claim(order[0] as JobId, "demo")
        expect(yield* store.ahead(order[0] as JobId)).toBe(null)
        // Now bob's first job is older than ada's next one... but not older than her second.
        expect(yield* store.queued("llm", 9)).toEqual([1, 3, 6, 2, 5, 4, 7].map((n) => ids[n]))
        yield* Effect.flip(store.ahead(makeId(0)))
      }),
    )

    test(
      "counts and running follow every change",
      Effect.gen(function* () {
        const store = yield* Store
        expect((yield* store.counts).size).toBe(0)
        const ids = (yield* save({}, {}, {}, { resource: "other", caller: "bob" })) as [JobId, JobId, JobId, JobId]
        yield* finish(ids[0])
        yield* store.claim(ids[1], "demo")
        yield* store.cancel(ids[2])
        expect(yield* store.counts).toEqual(yield* recount(["ada", "bob"]))
        expect((yield* store.running).map(({ id }) => id)).toEqual([ids[1]])
        yield* store.settle(ids[1], 1, { _tag: "Failed", failure, retryAt: 5 })
        expect(yield* store.running).toEqual([])
        expect(yield* store.counts).toEqual(yield* recount(["ada", "bob"]))
      }),
    )

    test(
      "awaitEvent wakes at the next event, at a removal, and at once where there is nothing to wait for",
      Effect.gen(function* () {
        const store = yield* Store
        const [id] = (yield* save({})) as [JobId]
        yield* store.awaitEvent(id, 0)
        yield* store.awaitEvent(makeId(0), 7)
        const waiting = yield* Effect.fork(store.awaitEvent(id, 1))
        const later = yield* Effect.fork(store.awaitEvent(id, 2))
        const left = yield* Effect.fork(store.awaitEvent(id, 1))
        yield* Effect.yieldNow()
        yield* Fiber.interrupt(left)
        yield* store.claim(id, "demo")
        yield* Fiber.join(waiting)
        expect(yield* Fiber.poll(later)).toMatchObject({ _tag: "None" })
        yield* store.settle(id, 1, succeeded)
        yield* Fiber.join(later)
        const removed = yield* Effect.fork(store.awaitEvent(id, 99))
        yield* Effect.yieldNow()
        yield* store.remove(id)
        yield* Fiber.join(removed)
      }),
    )

    test(
      "awaitEvent misses nothing between reading and waiting",
      Effect.gen(function* () {
        const store = yield* Store
        const [id] = (yield* save({})) as [JobId]
        yield* store.claim(id, "demo")
        const follow = Effect.gen(function* () {
          const seen: Array<number> = []
          for (;;) {
            const { events, job } = yield* store.events(id, seen.length, 3)
            seen.push(...events.map(({ event }) => event))
            if (isTerminal(job.status) && seen.length === job.events) return seen
            yield* store.awaitEvent(id, seen.length)
          }
        })
        const followers = yield* Effect.fork(
          Effect.all(
            Arr.makeBy(20, () => follow),
            { concurrency: "unbounded" },
          ),
        )
        yield* Effect.forEach(Arr.range(1, 100), (n) => store.append(id, 1, piece(".", n - 1)))
        const { events } = yield* store.settle(id, 1, succeeded, piece("end", 100))
        for (const seen of yield* Fiber.join(followers)) expect(seen).toEqual(Arr.range(1, events))
      }),
    )

    test(
      "ping succeeds, also many at once",
      Effect.gen(function* () {
        const store = yield* Store
        const pings = yield* Effect.exit(
          Effect.all(
            Arr.makeBy(20, () => store.ping),
            { concurrency: "unbounded" },
          ),
        )
        expect(Exit.isSuccess(pings)).toBe(true)
        expect(store.description).not.toBe("")
      }),
    )
  })
}
