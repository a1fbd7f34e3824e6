/** A submission without a fiber answers, logs and saves as the effect does, and never goes around a store. */
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Either, Layer } from "effect"
import { Offload, type Submission, type SubmitError, type Submitted } from "../../src/Offload.js"
import * as Memory from "../../src/Store/Memory.js"
import { Store, StoreError } from "../../src/Store.js"
import { captureLog, type Line, service } from "./harness.js"

const usual: Submission = { caller: "ada", input: { prompt: "p" }, metadata: { a: "b" } }

/** What is left to do after the callback; `null`: the submission needs the effect. */
const begin = (submission: Submission) =>
  Effect.flatMap(Offload, (offload) =>
    Effect.async<Effect.Effect<Submitted, SubmitError> | null>((resume) => {
      const isBegun = offload.submit.begin?.(submission, (rest) => resume(Effect.succeed(rest)))
      if (isBegun !== true) resume(Effect.succeed(null))
    }),
  )

const shortWay = (submission: Submission) =>
  Effect.flatMap(begin(submission), (rest) => rest ?? Effect.die("not begun"))
const longWay = (submission: Submission) => Effect.flatMap(Offload, (offload) => offload.submit(submission))

/** What two submissions of the same do not share. */
const comparable = (result: Either.Either<Submitted, SubmitError>) =>
  Either.match(result, {
    onLeft: (error) => ({ ...error, message: error.message.replace(/job_\w+/, "job_") }),
    onRight: ({ created, snapshot }) => ({
      created,
      ...snapshot,
      job: { ...snapshot.job, id: "", sequence: 0, createdAt: 0, deadlineAt: typeof snapshot.job.deadlineAt },
      queue: snapshot.queue === null ? null : Object.keys(snapshot.queue),
    }),
  })

const busy = (lines: Array<Line> = [], settings: Parameters<typeof service>[1] = {}) =>
  service(() => Effect.never, settings).pipe(Layer.provideMerge(captureLog(lines)))

describe("a submission beyond what the settings allow", () => {
  const bounds = {
    timeout: 1000,
    maxTimeout: 60_000,
    maxAttempts: 1,
    maxAttemptsLimit: 5,
    resources: '{"llm":{"models":["small","large"]},"open":{}}',
  }
  const asks: ReadonlyArray<readonly [Partial<Submission>, object | null]> = [
    [{ timeoutMillis: 60_000, maxAttempts: 5, input: { prompt: "p", model: "large" } }, null],
    [{ resource: "open", input: { prompt: "p", model: "huge" } }, null],
    [{ timeoutMillis: 60_001 }, { member: "timeoutSeconds", allowed: "at most 60" }],
    [{ maxAttempts: 6 }, { member: "maxAttempts", allowed: "at most 5" }],
    [{ input: { prompt: "p", model: "huge" } }, { member: "model", allowed: "one of small, large" }],
  ]
  for (const [members, expected] of asks) {
    it.live(`is ${expected === null ? "none" : "refused, and saves nothing"}: ${JSON.stringify(members)}`, () =>
      Effect.gen(function* () {
        const submission = { ...usual, ...members }
        const found = yield* Effect.either(longWay(submission))
        expect(yield* begin(submission)).toSatisfy((rest) => expected === null || rest === null)
        if (expected === null) return expect(Either.isRight(found)).toBe(true)
        expect(Either.flip(found)).toMatchObject({ right: { _tag: "SubmissionNotAllowed", ...expected } })
        expect((yield* (yield* Offload).list({ caller: "ada", limit: 9 })).jobs).toEqual([])
      }).pipe(Effect.provide(busy([], bounds))),
    )
  }
})

/** Both permits are taken. */
const occupied = Effect.zipRight(longWay(usual), longWay(usual))

describe("a submission without a fiber", () => {
  const key = (fingerprint: string) => ({ key: "k", fingerprint })
  const cases: Readonly<Record<string, Partial<Submission>>> = {
    "in order": {},
    "with every member": { resource: "llm", maxAttempts: 2, timeoutMillis: 5, maxCostUsd: 1, deadlineMillis: 60_000 },
    "under a key that was used for the same": { idempotency: key("same") },
    "under a key that was used for another": { idempotency: key("other") },
  }
  for (const [name, members] of Object.entries(cases)) {
    it.live(`${name} is answered and logged as the effect is`, () => {
      const lines: Array<Line> = []
      return Effect.gen(function* () {
        yield* occupied
        yield* longWay({ ...usual, idempotency: key("same") })
        const submission = { ...usual, ...members }
        lines.length = 0
        const long = yield* Effect.either(longWay(submission))
        const linesOfLong = lines.splice(0)
        const short = yield* Effect.either(shortWay(submission))
        expect(comparable(short)).toEqual(comparable(long))
        const said = (all: ReadonlyArray<Line>) =>
          all.map((line) => ({ ...line, annotations: { ...line.annotations, jobId: "" } }))
        expect(said(lines)).toEqual(said(linesOfLong))
      }).pipe(Effect.provide(busy(lines)))
    })
  }

  it.live("is refused by a full queue as the effect is", () =>
    Effect.gen(function* () {
      yield* occupied
      while (Either.isRight(yield* Effect.either(longWay(usual)))) {}
      const refused = comparable(yield* Effect.either(shortWay(usual)))
      expect(refused).toEqual(comparable(yield* Effect.either(longWay(usual))))
      expect(refused).toMatchObject({ _tag: "QueueFull" })
    }).pipe(Effect.provide(busy([], { maxQueued: 3 }))),
  )

  it.live("knows its place, one after the other", () =>
    Effect.gen(function* () {
      yield* occupied
      yield* Effect.flatMap(Offload, (offload) =>
        Effect.repeat(offload.resources, { until: ([llm]) => llm?.running === 2 }),
      )
      const rests = yield* Effect.all([begin(usual), begin(usual), begin(usual)])
      // Nothing is left to do: the answer is there.
      expect(rests.map((rest) => Either.isEither(rest))).toEqual([true, true, true])
      const answers = yield* Effect.forEach(rests, (rest) => rest ?? Effect.die("not begun"))
      expect(answers.map(({ snapshot }) => snapshot.queue?.ahead)).toEqual([0, 1, 2])
    }).pipe(Effect.provide(busy())),
  )

  it.live("begins at once where a permit is free", () =>
    Effect.gen(function* () {
      const { snapshot } = yield* shortWay(usual)
      const offload = yield* Offload
      yield* Effect.repeat(offload.job(snapshot.job.id), { until: ({ status }) => status === "succeeded" })
    }).pipe(Effect.provide(service(() => Effect.void))),
  )

  it.live("leaves to the effect what it cannot do, with nothing done", () =>
    Effect.gen(function* () {
      expect(yield* begin({ ...usual, resource: "nobody" })).toBe(null)
      expect(yield* begin({ ...usual, webhook: { url: "https://example.com/" } })).toBe(null)
      const { jobs } = yield* Effect.flatMap(Store, (store) => store.list({ caller: "ada", limit: 10 }))
      expect(jobs).toEqual([])
    }).pipe(Effect.provide(busy())),
  )

  it.live("goes through whatever is put before the store", () => {
    const down = new StoreError({ operation: "create", reason: "unavailable", detail: "it is down" })
    const store = Layer.map(Memory.layer, (context) =>
      Context.make(Store, { ...Context.get(context, Store), create: () => Effect.fail(down) }),
    )
    return Effect.gen(function* () {
      expect(yield* begin(usual)).toBe(null)
      expect(yield* Effect.flip(longWay(usual))).toMatchObject({ _tag: "MaybeSaved", keyed: false })
    }).pipe(Effect.provide(service(() => Effect.never, {}, store)))
  })
})
