/**
 * The jobs of a `Kv`: reads them, and plans how one of them moves from a record to the next. What reads at once
 * throws `KvError`, as `Kv` does.
 */
import { randomUUID } from "node:crypto"
import { Effect, Either, Schema } from "effect"
import { arising } from "../Job/Delivery.js"
import { type Event, type Input, type Job, JobId } from "../Job.js"
import { JobNotFound } from "../Store.js"
import * as Commit from "./Commit.js"
import * as Key from "./Key.js"
import { type Kv, KvError, type Op, put, reading, remove } from "./Kv.js"
import * as Open from "./Open.js"
import * as Record from "./Record.js"
import type { Tally } from "./Tally.js"
import * as Watch from "./Watch.js"

/** A decision about a job, with its locks held. */
type DecideOn<A, E> = (job: Job, now: number) => Either.Either<Commit.Plan<A>, E>

export interface Jobs {
  readonly kv: Kv
  readonly tally: Tally
  readonly watch: Watch.Watch
  readonly run: Commit.Commit["run"]
  readonly begin: Commit.Commit["begin"]
  readonly nextSequence: () => number
  /** This process, as the one that claims: it has a name that no other has, and claims nothing once it drains. */
  readonly claimant: { readonly name: string; isDraining: boolean }

  readonly find: (id: JobId) => Job | null
  readonly input: (id: JobId) => Input
  /** The events from number `from` to before `to`. */
  readonly events: (job: Job, from: number, to: number) => ReadonlyArray<Event>
  readonly firstUse: (key: string) => Record.FirstUse | null

  readonly read: (id: JobId) => Effect.Effect<Job, JobNotFound | KvError>
  /** The jobs that can be read; each of the others gives a line in the log. */
  readonly readAll: (ids: Iterable<string>) => Effect.Effect<ReadonlyArray<Job>, KvError>

  /** Changes a job under its lock. */
  readonly change: <A, E>(id: JobId, decide: DecideOn<A, E>) => Effect.Effect<A, E | JobNotFound | KvError>
  /** The same under the lock of its idempotency key too, as a removal has to. */
  readonly changeAll: <A, E>(id: JobId, decide: DecideOn<A, E>) => Effect.Effect<A, E | JobNotFound | KvError>
  /** The plan that makes `before` into `after`, with its indices, its event, its delivery where it ends, and `more`. */
  readonly move: <A>(before: Job | null, after: Job, now: number, answer: A, more?: ReadonlyArray<Op>) => Commit.Plan<A>
  /** The plan that removes a job and all that belongs to it, but for the use of its idempotency key. */
  readonly erase: <A>(job: Job, now: number, answer: A) => Commit.Plan<A>
}

const isJobId = Schema.is(JobId)

/** The ids among texts from an index. */
export const jobIds = (texts: Iterable<string>): ReadonlyArray<JobId> => Array.from(texts).filter((id) => isJobId(id))

/** One log line for a record that was passed over. */
export const warn = (what: string): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logWarning(`passed over: ${what}`), { module: "Store" })

export const make = (kv: Kv): Effect.Effect<Jobs, KvError> =>
  Effect.map(Open.open(kv), ({ sequence: highest, tally }) => {
    const { begin, run } = Commit.make(kv)
    const watch = Watch.make()
    let sequence = highest
    const nextSequence = () => ++sequence

    const find: Jobs["find"] = (id) => {
      const text = kv.get("jobs", id)
      return text === undefined ? null : Record.decodeJob(id, text)
    }

    const firstUse: Jobs["firstUse"] = (key) => {
      const text = kv.get("idempotency", key)
      return text === undefined ? null : Record.decodeFirstUse(key, text)
    }

    const read: Jobs["read"] = (id) =>
      Effect.flatMap(
        reading(() => find(id)),
        (job) => (job === null ? new JobNotFound({ id }) : Effect.succeed(job)),
      )

    /** Notes the size of a job that these operations are about; how much it grows by them. */
    const measure = (job: Job, isNew: boolean, ops: Array<Op>): number => {
      const key = Record.bytesKey(job)
      const before = isNew ? "0" : kv.get("meta", key)
      const added = Record.bytesOf(ops, isNew)
      if (before === undefined || added === 0) return 0
      ops.push(put("meta", key, String(Number(before) + added)))
      return added
    }

    const decideOn =
      <A, E>(id: JobId, decide: DecideOn<A, E>): Commit.Decide<A, E | JobNotFound> =>
      (now) => {
        const job = find(id)
        return job === null ? Either.left(new JobNotFound({ id })) : decide(job, now)
      }

    return {
      kv,
      tally,
      watch,
      run,
      begin,
      nextSequence,
      claimant: { name: randomUUID(), isDraining: false },
      find,
      input: (id) => {
        const text = kv.get("inputs", id)
        if (text === undefined) throw new KvError({ reason: "malformed", detail: `the input of '${id}' is missing` })
        return Record.decodeInput(id, text)
      },
      events: (job, from, to) => {
        const { id } = job
        const range = { start: Key.key(id, Math.max(2, from)), end: Key.key(id, to) }
        const stored = Array.from(kv.entries("events", range), ({ value }) => Record.decodeEvent(id, value))
        return from <= 1 && to > 1 ? [Record.firstEvent(job), ...stored] : stored
      },
      firstUse,
      read,
      readAll: (ids) =>
        Effect.gen(function* () {
          const jobs: Array<Job> = []
          for (const id of jobIds(ids)) {
            const job = yield* Effect.either(reading(() => find(id)))
            if (Either.isRight(job) && job.right !== null) jobs.push(job.right)
            else if (Either.isRight(job)) yield* warn(`the record of '${id}' is missing`)
            else if (job.left.reason === "malformed") yield* warn(job.left.detail)
            else return yield* job.left
          }
          return jobs
        }),
      change: (id, decide) => run([id], decideOn(id, decide)),
      changeAll: (id, decide) =>
        // Read before the locks are held, in the order in which `create` holds them: the key of a job never changes.
        Effect.flatMap(read(id), ({ caller, idempotencyKey }) =>
          run(
            idempotencyKey === null ? [id] : [Record.idempotencyKey(caller, idempotencyKey), id],
            decideOn(id, decide),
          ),
        ),
      move: (before, after, now, answer, more = []) => {
        const delivery = arising(before, after, nextSequence, now)
        const ops = Record.write(before, after)
        if (before !== null && before.status !== after.status) ops.push(Record.writeStatus(after, now))
        ops.push(...more)
        const added = measure(after, before === null, ops)
        const ofDelivery = delivery === null ? [] : Record.writeNew(delivery.job, delivery.input)
        const addedBeside = delivery === null ? 0 : measure(delivery.job, true, ofDelivery)
        ops.push(...ofDelivery)
        return {
          ops,
          answer,
          onCommitted: () => {
            tally.move(before, after)
            tally.addBytes(after.caller, added + addedBeside)
            if (delivery !== null) tally.move(null, delivery.job)
            watch.notify(after.id, after.events)
          },
        }
      },
      erase: (job, now, answer) => {
        const ops = Record.erase(job)
        if (job.idempotencyKey !== null) {
          const key = Record.idempotencyKey(job.caller, job.idempotencyKey)
          const use = firstUse(key)
          // The key may have been used again since, for another job.
          if (use?.id === job.id) ops.push(...Record.leaveUse(key, use, job, now))
        }
        for (const key of kv.keys("events", Key.under(job.id))) ops.push(remove("events", key))
        const bytes = Number(kv.get("meta", Record.bytesKey(job)) ?? 0)
        ops.push(remove("meta", Record.bytesKey(job)))
        return {
          ops,
          answer,
          onCommitted: () => {
            tally.move(job, null)
            tally.addBytes(job.caller, -bytes)
            watch.notify(job.id, null)
          },
        }
      },
    }
  })
