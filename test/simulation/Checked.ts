/**
 * A store that compares each answer with that of the model, and whose whole state can be compared with the model's.
 * It stands below the faults, so that it sees what was made, whatever the caller learns of it.
 */
import { deepStrictEqual, ok } from "node:assert/strict"
import { isDeepStrictEqual } from "node:util"
import { Clock, Effect, Either } from "effect"
import { type Event, isTerminal, type Job, type JobId, type Status } from "../../src/Job.js"
import { type Page, type Store, StoreError } from "../../src/Store.js"
import * as Model from "./Model.js"
import { through } from "./through.js"

type Service = Store["Type"]

/** The store itself failed, unasked: a machine that stood still for a second says nothing about what was stored. */
export class Inconclusive extends Error {}

export interface Checked {
  readonly store: Service
  /** The model's jobs, the oldest first. */
  readonly jobs: () => ReadonlyArray<Model.Held>
  /** Compares counts, and the records and logs of what has changed, with the model; or all that the store can say. */
  readonly verify: (what: "all" | "changed") => Effect.Effect<void>
}

const see = (job: Job): Model.Seen => ({
  status: job.status,
  attempt: job.attempt,
  startedAt: job.startedAt,
  finishedAt: job.finishedAt,
  cancelRequestedAt: job.cancelRequestedAt,
  retryAt: job.retryAt,
  deadlineAt: job.deadlineAt,
  error: job.error?.tag ?? null,
  outcomes: job.attempts.map(({ outcome }) => outcome),
})

const entry = (event: Event): Model.Entry =>
  event.type === "output"
    ? { at: event.at, attempt: event.attempt, text: event.text }
    : { at: event.at, attempt: event.attempt, status: event.status, error: event.error?.tag ?? null }

export const callers = ["ada", "bob"] as const
export const resources = ["llm", "other"] as const

/** `opened` is the store of now: it is another one when it was opened again. */
export const make = (opened: () => Service): Checked => {
  const real = through(opened, (_, call) =>
    Effect.tapError(call, (error) =>
      error instanceof StoreError && error.reason === "unavailable"
        ? Effect.die(new Inconclusive(error.message))
        : Effect.void,
    ),
  )
  let jobs: ReadonlyArray<Model.Held> = []
  const uses = new Map<string, Model.Use>()
  /** Which process claimed the newest attempt of each job: the store as it was opened then. */
  const claimants = new Map<JobId, { readonly attempt: number; readonly process: Service }>()
  const draining = new Set<Service>()
  /** Terminal records as they were seen first. */
  const ended = new Map<JobId, string>()
  /** What has changed since all was compared, and how long its log was then. */
  const changed = new Map<JobId, number>()

  const find = (id: JobId) => jobs.find(({ submission }) => submission.id === id)

  const add = (job: Model.Held) => {
    ok(
      jobs.every(({ sequence }) => sequence < job.sequence),
      "a new job comes after all others",
    )
    changed.set(job.submission.id, 0)
    jobs = [...jobs, job]
  }

  /** Puts the record in its place, with the delivery that it leaves. */
  const put = (before: Model.Held, after: Model.Held, now: number) =>
    Effect.gen(function* () {
      if (after === before) return
      if (!changed.has(after.submission.id)) changed.set(after.submission.id, before.log.length)
      jobs = jobs.map((job) => (job === before ? after : job))
      const { caller, webhook } = after.submission
      if (webhook === null || !Model.isOver(after)) return
      const { sequence } = yield* Effect.orDie(real.get(webhook.delivery))
      const delivery = { ...after.submission, id: webhook.delivery, resource: Model.deliveries, caller, webhook: null }
      const { maxAttempts } = webhook
      add(
        Model.created(
          { ...delivery, maxAttempts, deadlineMillis: null, idempotency: null },
          sequence,
          now,
          after.submission.id,
        ),
      )
    })

  const drop = ({ seen, submission: { caller, id, idempotency } }: Model.Held) => {
    jobs = jobs.filter(({ submission }) => submission.id !== id)
    changed.delete(id)
    ended.delete(id)
    const key = `${caller} ${idempotency?.key}`
    const use = uses.get(key)
    if (use?.id === id) uses.set(key, { ...use, endedAt: seen.finishedAt })
  }

  const same = (what: string, actual: unknown, expected: unknown) => {
    if (!isDeepStrictEqual(actual, expected)) deepStrictEqual({ [what]: actual }, { [what]: expected })
  }

  /** Makes the call, and compares it with what the model says of the job, which is then in its place. */
  const change = <A, E extends { readonly _tag: string }>(
    what: string,
    id: JobId,
    call: Effect.Effect<A, E>,
    decide: (job: Model.Held, now: number) => Model.Held | "null" | "StaleAttempt" | "JobNotTerminal" | "gone",
    view: (answer: A) => Model.Seen | null,
  ): Effect.Effect<A, E> =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const answer = yield* Effect.either(call)
      const actual = Either.isLeft(answer) ? answer.left._tag : view(answer.right)
      const before = find(id)
      const after = before === undefined ? "JobNotFound" : decide(before, now)
      if (before !== undefined && typeof after === "object") {
        same(what, actual, view === nothing ? null : after.seen)
        yield* put(before, after, now)
      } else {
        same(what, actual, after === "null" || after === "gone" ? null : after)
        if (before !== undefined && after === "gone") drop(before)
      }
      return yield* answer
    })

  const store: Service = {
    ...real,

    create: (submission, limits) =>
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const answer = yield* Effect.either(real.create(submission, limits))
        const { caller, id, idempotency, resource } = submission
        const key = `${caller} ${idempotency?.key}`
        const use = uses.get(key)
        const first = use !== undefined && Model.counts(use, find(use.id), now) ? use : undefined
        const known = find(first?.id ?? id)
        const queued = jobs.filter(({ seen }) => seen.status === "queued")
        const expected = (): unknown => {
          if (first !== undefined && idempotency?.fingerprint !== first.fingerprint) return "IdempotencyConflict"
          if (first !== undefined && known === undefined) return "JobGone"
          if (known !== undefined) return { created: false, id: known.submission.id, seen: known.seen }
          const ofCaller = queued.filter((job) => job.deliveryOf === null && job.submission.caller === caller)
          const full =
            queued.filter((job) => job.submission.resource === resource).length >= limits.maxQueued ||
            ofCaller.length >= (limits.maxQueuedPerCaller ?? Number.POSITIVE_INFINITY)
          return full ? "QueueFull" : { created: true, id, seen: Model.created(submission, 0, now).seen }
        }
        if (Either.isLeft(answer)) same("create", answer.left._tag, expected())
        else {
          const { created, job } = answer.right
          same("create", { created, id: job.id, seen: see(job) }, expected())
          if (created) {
            add(Model.created(submission, job.sequence, now))
            if (idempotency !== null) uses.set(key, { id, fingerprint: idempotency.fingerprint, endedAt: null })
          }
        }
        return yield* answer
      }),

    claim: (id, adapter, { alone = false, name = null } = {}) =>
      Effect.tap(
        change(
          "claim",
          id,
          real.claim(id, adapter, { name, alone }),
          (job, now) => {
            const claimed = Model.claim(job, name ?? "", alone, now)
            return claimed === null || (claimed !== job && draining.has(opened())) ? "null" : claimed
          },
          (answer) => answer && see(answer.job),
        ),
        // A claim that is made again by a later process is that of the first one.
        (answer) => {
          const before = claimants.get(id)
          if (answer !== null && before?.attempt !== answer.job.attempt) {
            claimants.set(id, { attempt: answer.job.attempt, process: opened() })
          }
        },
      ),

    drain: Effect.suspend(() => {
      draining.add(opened())
      return real.drain
    }),

    append: (id, attempt, piece) =>
      change(
        "append",
        id,
        real.append(id, attempt, piece),
        (job, now) => Model.append(job, attempt, piece, now) ?? "StaleAttempt",
        nothing,
      ),

    settle: (id, attempt, outcome, last = { at: 0, text: "" }) =>
      change(
        "settle",
        id,
        real.settle(id, attempt, outcome, last),
        (job, now) => Model.settle(job, attempt, outcome, last, now) ?? "StaleAttempt",
        see,
      ),

    cancel: (id) => change("cancel", id, real.cancel(id), Model.cancel, see),

    remove: (id) =>
      change("remove", id, real.remove(id), (job) => (Model.isOver(job) ? "gone" : "JobNotTerminal"), nothing),

    orphans: (isCarried) =>
      Effect.tap(real.orphans(isCarried), (found) => {
        const running = jobs.filter(({ seen }) => seen.status === "running").map(({ submission }) => submission.id)
        same("orphans", found.map(({ job }) => job.id).sort(), running.filter((id) => !isCarried(id)).sort())
        for (const { drained, job } of found) {
          const claimant = claimants.get(job.id)
          same(`drained: ${job.id}`, drained, claimant !== undefined && draining.has(claimant.process))
        }
      }),

    shorten: (options) =>
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const answer = yield* real.shorten(options)
        const after = jobs.map((job) => Model.shorten(job, now))
        const shortened = after.filter((job) => !jobs.includes(job))
        same("shortened", answer, { released: shortened.length, cursor: null })
        for (const job of shortened) if (!changed.has(job.submission.id)) changed.set(job.submission.id, job.log.length)
        jobs = after
        return answer
      }),

    advance: (options) =>
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const answer = yield* real.advance(options)
        const { limit = 1000, retentionMillis } = options
        const due = jobs.filter((job) => Model.due(job, retentionMillis, now) !== job)
        const done: Array<readonly [Model.Held, Model.Held | null]> = []
        for (const job of due) {
          const after = Model.due(job, retentionMillis, now)
          const found = Either.getOrNull(yield* Effect.either(real.get(job.submission.id)))
          // Where not all can be done, any of them may be.
          const isDone =
            limit >= due.length ||
            found === null ||
            found.finishedAt !== job.seen.finishedAt ||
            found.retryAt !== job.seen.retryAt
          if (isDone) done.push([job, after])
        }
        ok(done.length > 0 || due.length === 0 || limit === 0, "something of what is due is done")
        const ids = (kind: (after: Model.Held | null) => boolean) =>
          done.flatMap(([{ submission }, after]) => (kind(after) ? [submission.id] : [])).sort()
        const of = (found: ReadonlyArray<Job>) => found.map(({ id }) => id).sort()
        same(
          "expired",
          of(answer.expired),
          ids((after) => after !== null && Model.isOver(after)),
        )
        same("removed", answer.removed, ids((after) => after === null).length)
        // A backoff and a deadline that end together may be done one after the other.
        const ready = new Set(of(answer.ready))
        for (const id of ids((after) => after !== null && !Model.isOver(after))) ok(ready.has(id), `${id} is ready`)
        // In the order in which their deliveries were saved.
        const ordered: Array<readonly [number, Model.Held, Model.Held | null]> = []
        for (const [before, after] of done) {
          const delivery = after === null ? null : (before.submission.webhook?.delivery ?? null)
          const sequence =
            delivery === null || after === null || !Model.isOver(after)
              ? 0
              : (yield* Effect.orDie(real.get(delivery))).sequence
          ordered.push([sequence, before, after])
        }
        for (const [, before, after] of ordered.sort(([a], [b]) => a - b)) {
          if (after === null) drop(before)
          else yield* put(before, after, now)
        }
        return answer
      }),
  }

  /** The record, and the log after event number `after`. */
  const log = (held: Model.Held, after: number) =>
    Effect.gen(function* () {
      const { id } = held.submission
      const { events, job } = yield* Effect.orDie(real.events(id, after))
      same(`record of ${id}`, see(job), held.seen)
      same(`log of ${id}`, events.map(entry), held.log.slice(after))
      const numbers = [...events.map(({ event }) => event), job.events]
      same("numbers", numbers, [...events.map((_, n) => after + n + 1), held.log.length])
      const ends = events.filter((event) => event.type === "status" && isTerminal(event.status))
      if (after === 0 || ends.length > 0) same("ends", ends, isTerminal(job.status) ? events.slice(-1) : [])
    })

  const ids = (of: ReadonlyArray<Model.Held>) => of.map(({ submission }) => submission.id)

  const counts = Effect.gen(function* () {
    const told = [...(yield* Effect.orDie(real.counts))].flatMap(([resource, row]) =>
      Object.entries(row).flatMap(([status, count]) =>
        count === 0 ? [] : [[`${resource} ${status}`, count] as const],
      ),
    )
    const counted = new Map<string, number>()
    for (const { seen, submission } of jobs) {
      const row = `${submission.resource} ${seen.status}`
      counted.set(row, (counted.get(row) ?? 0) + 1)
    }
    same("counts", new Map(told), counted)
  })

  const queues = Effect.forEach([...resources, Model.deliveries], (resource) =>
    Effect.gen(function* () {
      const order = Model.inTurn(jobs.filter(({ submission }) => submission.resource === resource))
      same(`queue of ${resource}`, yield* Effect.orDie(real.queued(resource, 100)), order)
      same(`head of ${resource}`, yield* Effect.orDie(real.queued(resource, 3)), order.slice(0, 3))
      for (const [n, id] of order.entries()) same(`before ${id}`, yield* Effect.orDie(real.ahead(id)), n)
    }),
  )

  /** A listing, by small pages. */
  const list = (query: { readonly caller: string; readonly resource?: string; readonly status?: Status }) =>
    Effect.gen(function* () {
      const listed: Array<Job> = []
      let cursor: string | undefined
      do {
        const page: Page = yield* Effect.orDie(real.list({ ...query, cursor, limit: 4 }))
        listed.push(...page.jobs)
        cursor = page.cursor ?? undefined
      } while (cursor !== undefined)
      const { caller, resource, status } = query
      const expected = jobs.filter(
        ({ deliveryOf, seen, submission }) =>
          submission.caller === caller &&
          (resource === undefined ? deliveryOf === null : submission.resource === resource) &&
          (status === undefined || seen.status === status),
      )
      same(
        `jobs of ${JSON.stringify(query)}`,
        listed.map(({ id }) => id),
        ids(expected).toReversed(),
      )
      return listed
    })

  /** What has ended is what it was when it ended. */
  const ends = (listed: ReadonlyArray<Job>) => {
    for (const job of listed) {
      if (!isTerminal(job.status)) continue
      const record = JSON.stringify(job)
      same(`what had ended: ${job.id}`, record, ended.get(job.id) ?? record)
      ended.set(job.id, record)
    }
  }

  const all = Effect.gen(function* () {
    yield* queues
    for (const caller of callers) {
      ends(yield* list({ caller }))
      ends(yield* list({ caller, resource: Model.deliveries }))
      yield* list({ caller, status: "queued" })
      yield* list({ caller, resource: "llm", status: "failed" })
    }
    const running = (yield* Effect.orDie(real.running)).map(({ id }) => id)
    same("running", running.sort(), ids(jobs.filter(({ seen }) => seen.status === "running")).sort())
    for (const { output, submission } of jobs) {
      same(`output of ${submission.id}`, yield* Effect.orDie(real.output(submission.id)), output)
    }
  })

  const verify: Checked["verify"] = (what) =>
    Effect.gen(function* () {
      yield* counts
      for (const job of jobs) {
        const after = what === "all" ? 0 : changed.get(job.submission.id)
        if (after !== undefined) yield* log(job, after)
      }
      changed.clear()
      if (what === "all") yield* all
    })

  return { store, jobs: () => jobs, verify }
}

const nothing = () => null
