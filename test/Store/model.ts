/** The store against a model that is too simple to be wrong: a list of jobs, walked through for every question. */
import { expect, it } from "@effect/vitest"
import { Effect, Either, Layer, TestClock, TestContext } from "effect"
import * as fc from "fast-check"
import * as Transition from "../../src/Job/Transition.js"
import { type Event, isTerminal, type Job, type JobId, makeId, type Status } from "../../src/Job.js"
import { Store } from "../../src/Store.js"
import { failure, submission, succeeded } from "./submission.js"
import { listAll, recount } from "./suite.js"

const callers = ["ada", "bob", "eve"]
const resources = ["llm", "other"]
const maxQueued = 5

type Op =
  | { readonly op: "create"; readonly caller: string; readonly resource: string; readonly deadline: number | null }
  | { readonly op: "claim" | "cancel" | "remove"; readonly job: number }
  | {
      readonly op: "append"
      readonly job: number
      readonly late: number
      readonly again: number
      readonly text: string
    }
  | { readonly op: "settle"; readonly job: number; readonly late: number; readonly outcome: Transition.Outcome }
  | { readonly op: "advance"; readonly retention: number; readonly limit: number }
  | { readonly op: "wait"; readonly millis: number }

const job = fc.nat(7)
const late = fc.constantFrom(0, 0, 0, 1)
const outcome: fc.Arbitrary<Transition.Outcome> = fc.oneof(
  fc.constant(succeeded),
  fc.constant<Transition.Outcome>({ _tag: "Interrupted" }),
  fc.nat(200).map((retryAt): Transition.Outcome => ({ _tag: "Orphaned", retryAt })),
  fc.nat(200).map((retryAt): Transition.Outcome => ({ _tag: "Failed", failure, retryAt })),
)

const operation: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("create" as const),
      caller: fc.constantFrom(...callers),
      resource: fc.constantFrom(...resources),
      deadline: fc.option(fc.nat(150)),
    }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant("claim" as const), job }) },
  fc.record({ op: fc.constantFrom("cancel" as const, "remove" as const), job }),
  fc.record({ op: fc.constant("append" as const), job, late, again: fc.nat(3), text: fc.string({ maxLength: 3 }) }),
  { weight: 3, arbitrary: fc.record({ op: fc.constant("settle" as const), job, late, outcome }) },
  fc.record({ op: fc.constant("advance" as const), retention: fc.nat(200), limit: fc.constantFrom(1, 100) }),
  fc.record({ op: fc.constant("wait" as const), millis: fc.nat(50) }),
)

interface Modelled {
  job: Job
  readonly log: Array<Event>
}

const rank = (job: Job) => job.sequence

/** Callers in turn, by the age of their first job. */
const inTurn = (jobs: ReadonlyArray<Job>): ReadonlyArray<JobId> => {
  const ready = jobs.filter(({ retryAt, status }) => status === "queued" && retryAt === null)
  const lines = callers
    .map((caller) => ready.filter((job) => job.caller === caller).sort((a, b) => rank(a) - rank(b)))
    .filter((line) => line.length > 0)
    .sort((a, b) => (a[0]?.sequence ?? 0) - (b[0]?.sequence ?? 0))
  const longest = Math.max(0, ...lines.map((line) => line.length))
  return Array.from({ length: longest }, (_, turn) => lines.flatMap((line) => line[turn]?.id ?? [])).flat()
}

const run = (operations: ReadonlyArray<Op>) =>
  Effect.gen(function* () {
    const store = yield* Store
    const all: Array<Modelled> = []
    let now = 0
    let sequence = 0
    let ids = 0

    const move = (modelled: Modelled, after: Job | null, text = "") => {
      if (after === null) return
      if (text !== "") {
        const { attempt, events } = modelled.job
        modelled.log.push({ type: "output", event: events + 1, at: now, attempt, text })
      }
      if (after.status !== modelled.job.status) {
        const { attempt, error, events, status } = after
        modelled.log.push({ type: "status", event: events, at: now, status, attempt, error })
      }
      modelled.job = after
    }

    const apply = (op: Op) =>
      Effect.gen(function* () {
        if (op.op === "wait") {
          now += op.millis
          return yield* TestClock.adjust(op.millis)
        }
        if (op.op === "create") {
          const { caller, deadline: deadlineMillis, resource } = op
          const fields = submission({ id: makeId(ids++), caller, resource, deadlineMillis, maxAttempts: 2 })
          const result = yield* Effect.either(store.create(fields, { maxQueued }))
          const queued = all.filter(({ job }) => job.resource === resource && job.status === "queued").length
          expect(Either.isRight(result)).toBe(queued < maxQueued)
          if (Either.isLeft(result)) return
          const created = Transition.create(fields, ++sequence, now)
          expect(result.right.job).toEqual(created)
          all.push({
            job: created,
            log: [{ type: "status", event: 1, at: now, status: "queued", attempt: 0, error: null }],
          })
          return
        }
        if (op.op === "advance") {
          const { limit, retention: retentionMillis } = op
          const advanced = yield* store.advance({ retentionMillis, limit })
          const did = advanced.expired.length + advanced.ready.length + advanced.removed
          expect(did).toBeLessThanOrEqual(limit)
          const expired = new Map(advanced.expired.map((job) => [job.id, job]))
          const ready = new Map(advanced.ready.map((job) => [job.id, job]))
          const old = (job: Job) => job.finishedAt !== null && job.finishedAt < now - retentionMillis
          const due = all.filter(({ job }) => Transition.expire(job, now) ?? Transition.ready(job, now) ?? old(job))
          expect(did).toBe(Math.min(limit, due.length))
          for (const modelled of all) {
            const { id } = modelled.job
            if (expired.has(id)) move(modelled, Transition.expire(modelled.job, now))
            else if (ready.has(id)) move(modelled, Transition.ready(modelled.job, now))
            if (expired.has(id) || ready.has(id)) expect(expired.get(id) ?? ready.get(id)).toEqual(modelled.job)
          }
          for (const modelled of all.filter(({ job }) => old(job))) {
            const kept = yield* Effect.either(store.get(modelled.job.id))
            if (Either.isLeft(kept)) all.splice(all.indexOf(modelled), 1)
          }
          return
        }
        const modelled = all[op.job]
        if (modelled === undefined) return
        const { job } = modelled
        switch (op.op) {
          case "claim": {
            const claimed = Transition.claim(job, "demo", now)
            expect((yield* store.claim(job.id, "demo"))?.job ?? null).toEqual(claimed)
            return move(modelled, claimed)
          }
          case "cancel": {
            const cancelled = Transition.cancel(job, now)
            expect(yield* store.cancel(job.id)).toEqual(cancelled ?? job)
            return move(modelled, cancelled)
          }
          case "append": {
            const attempt = job.attempt - op.late
            const at = Math.max(0, job.outputEnd - op.again)
            const result = yield* Effect.either(store.append(job.id, attempt, { at, text: op.text }))
            expect(Either.isRight(result)).toBe(Transition.isLive(job, attempt))
            const text = op.text.slice(job.outputEnd - at)
            if (Either.isLeft(result) || text === "") return
            return move(modelled, { ...job, events: job.events + 1, outputEnd: job.outputEnd + text.length }, text)
          }
          case "settle": {
            const attempt = job.attempt - op.late
            const { events, outputEnd } = job
            const written = { ...job, events: events + 1, outputEnd: outputEnd + 3 }
            const settled = Transition.settle(written, attempt, op.outcome, now)
            const last = { at: outputEnd, text: "end" }
            const result = yield* Effect.either(store.settle(job.id, attempt, op.outcome, last))
            expect(Either.getOrNull(result)).toEqual(settled)
            return move(modelled, settled, "end")
          }
          case "remove": {
            const result = yield* Effect.either(store.remove(job.id))
            expect(Either.isRight(result)).toBe(isTerminal(job.status))
            if (Either.isRight(result)) all.splice(all.indexOf(modelled), 1)
          }
        }
      })

    const compare = Effect.gen(function* () {
      const jobs = all.map(({ job }) => job)
      expect(yield* store.counts).toEqual(yield* recount(callers))
      for (const caller of callers) {
        const mine = jobs.filter((job) => job.caller === caller).sort((a, b) => rank(b) - rank(a))
        expect(yield* listAll(caller, 2)).toEqual(mine)
        for (const status of ["queued", "running", "failed"] satisfies ReadonlyArray<Status>) {
          expect(yield* listAll(caller, 3, { status })).toEqual(mine.filter((job) => job.status === status))
        }
      }
      for (const resource of resources) {
        const order = inTurn(jobs.filter((job) => job.resource === resource))
        expect(yield* store.queued(resource, 100)).toEqual(order)
        expect(yield* store.queued(resource, 3)).toEqual(order.slice(0, 3))
        expect(yield* Effect.forEach(order, (id) => store.ahead(id))).toEqual(order.map((_, n) => n))
      }
      const running = jobs.filter(({ status }) => status === "running").map(({ id }) => id)
      expect((yield* store.running).map(({ id }) => id).sort()).toEqual(running.sort())
      for (const { job, log } of all) {
        expect(yield* store.events(job.id, 0)).toEqual({ job, events: log })
        const output = log.filter(({ event }) => event >= job.outputFrom)
        expect(yield* store.output(job.id)).toBe(output.map((event) => ("text" in event ? event.text : "")).join(""))
      }
    })

    for (const [n, op] of operations.entries()) {
      yield* apply(op)
      if (n % 10 === 9) yield* compare
    }
    yield* compare
  })

export const property = (layer: Layer.Layer<Store, unknown>, numRuns: number) =>
  it("keeps counts, listings, queues and logs as a simple model does, whatever is done", () =>
    fc.assert(
      fc.asyncProperty(fc.array(operation, { minLength: 20, maxLength: 60, size: "max" }), (operations) =>
        Effect.runPromise(run(operations).pipe(Effect.provide(Layer.merge(layer, TestContext.TestContext)))),
      ),
      { numRuns },
    ))
