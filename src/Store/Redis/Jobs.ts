/** The jobs in Redis: reads them, and changes one of them from the record that was read to the next. */
import { Clock, Effect, Either } from "effect"
import type { Delivery } from "../../Job/Delivery.js"
import { deliveries, isTerminal, type Job, type JobId } from "../../Job.js"
import type { Client } from "../../Redis.js"
import { JobNotFound, type JobWithInput } from "../../Store.js"
import { KvError, reading } from "../Kv.js"
import * as Record from "../Record.js"
import { command, evaluate } from "./Connection.js"
import { countField, type Keys } from "./Keys.js"
import type { Nodes } from "./Nodes.js"
import * as Scripts from "./Scripts.js"
import { around } from "./Sequence.js"

/** How often a change is decided anew because another one came between. Each time somebody else got on. */
const maxTries = 100

/** A record, and the version that a change of it must find. */
export interface Stored {
  readonly job: Job
  readonly version: string
}

/** What becomes of a job: its next record with the events that it adds and the delivery that it leaves, or nothing. */
export interface Plan<A> {
  readonly answer: A
  readonly next: {
    readonly job: Job
    readonly events: ReadonlyArray<readonly [number: number, text: string]>
    readonly delivery: Delivery | null
    /** Whether it adds work, which is refused where memory is short. Default: no. */
    readonly isGrowth?: boolean
  } | null
}

export interface Jobs {
  readonly client: Client
  readonly keys: Keys
  readonly nodes: Nodes
  readonly find: (id: JobId) => Effect.Effect<Stored | null, KvError>
  readonly read: (id: JobId) => Effect.Effect<Job, JobNotFound | KvError>
  readonly readWithInput: (id: JobId) => Effect.Effect<JobWithInput, JobNotFound | KvError>
  /** Those that can be read; each of the others gives a line in the log. */
  readonly readAll: (ids: ReadonlyArray<JobId>) => Effect.Effect<ReadonlyArray<Job>, KvError>
  readonly change: <A, E>(
    id: JobId,
    decide: (job: Job, now: number) => Either.Either<Plan<A>, E>,
  ) => Effect.Effect<A, E | JobNotFound | KvError>
  /** Removes a job and all that belongs to it, if `allows` it. */
  readonly remove: <E>(id: JobId, allows: (job: Job) => E | null) => Effect.Effect<void, E | JobNotFound | KvError>
}

const flag = (is: boolean): string => (is ? "1" : "")
const time = (at: number | null): string => (at === null ? "" : String(Math.ceil(at)))

const textsOf = ({ input, job }: Delivery): ReadonlyArray<string> => [
  job.id,
  ...around(job),
  JSON.stringify(input),
  countField(job.resource, "queued"),
]
const noDelivery = ["", "", "", "", ""]

const warn = (what: string): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logWarning(`passed over: ${what}`), { module: "Store" })

export const make = (client: Client, keys: Keys, nodes: Nodes): Jobs => {
  const find: Jobs["find"] = (id) =>
    Effect.flatMap(
      command(() => client.hmget(keys.job(id), "job", "v")),
      ([text, version]) =>
        text == null || version == null
          ? Effect.succeed(null)
          : reading(() => ({ job: Record.decodeJob(id, text), version })),
    )

  const found = (id: JobId): Effect.Effect<Stored, JobNotFound | KvError> =>
    Effect.flatMap(find(id), (stored) => (stored === null ? new JobNotFound({ id }) : Effect.succeed(stored)))

  const keysOf = ({ job }: Delivery): ReadonlyArray<string> => [
    keys.job(job.id),
    keys.index(job),
    keys.ready(job.resource, job.caller),
    keys.heads(job.resource),
    keys.sequence,
  ]

  const apply = (
    before: Job,
    version: string,
    { delivery, events, isGrowth = false, job }: NonNullable<Plan<unknown>["next"]>,
  ) => {
    // A caller does not submit deliveries, and must not be kept from submitting by a receiver that is away.
    const isCounted = job.resource !== deliveries
    const queued = isCounted ? Number(job.status === "queued") - Number(before.status === "queued") : 0
    return evaluate(
      client,
      Scripts.change,
      [
        keys.job(job.id),
        keys.log(job.id),
        keys.counts,
        keys.queued,
        keys.index(before),
        keys.index(job),
        keys.ready(job.resource, job.caller),
        keys.heads(job.resource),
        keys.running,
        keys.due("backoff"),
        keys.due("deadline"),
        keys.due("retention"),
        keys.nodes,
        keys.bytes,
        keys.allBytes,
        ...(delivery === null ? [] : keysOf(delivery)),
      ],
      [
        job.id,
        version,
        Record.encodeJob(job),
        job.sequence,
        job.caller,
        countField(before.resource, before.status),
        countField(job.resource, job.status),
        queued,
        flag(Record.isReady(job)),
        job.status === "running" ? nodes.own() : "",
        time(job.status === "queued" ? job.retryAt : null),
        time(job.status === "queued" ? job.deadlineAt : null),
        time(isTerminal(job.status) ? job.finishedAt : null),
        keys.channel,
        ...(delivery === null ? noDelivery : textsOf(delivery)),
        flag(!isGrowth),
        ...events.flat(),
      ],
    )
  }

  const again = (tries: number): Effect.Effect<void, KvError> =>
    tries > 0
      ? Effect.yieldNow()
      : new KvError({ reason: "unavailable", detail: "the job was changed by others again and again" })

  const change = <A, E>(
    id: JobId,
    decide: (job: Job, now: number) => Either.Either<Plan<A>, E>,
    tries = maxTries,
  ): Effect.Effect<A, E | JobNotFound | KvError> =>
    Effect.gen(function* () {
      const { job, version } = yield* found(id)
      const now = yield* Clock.currentTimeMillis
      const { answer, next } = yield* decide(job, now)
      if (next === null) return answer
      const applied = yield* apply(job, version, next)
      if (applied === 1) return answer
      if (applied === -1) return yield* new KvError({ reason: "unavailable", detail: "this node was taken for dead" })
      yield* again(tries)
      return yield* change(id, decide, tries - 1)
    })

  const remove = <E>(
    id: JobId,
    allows: (job: Job) => E | null,
    tries = maxTries,
  ): Effect.Effect<void, E | JobNotFound | KvError> =>
    Effect.gen(function* () {
      const { job, version } = yield* found(id)
      const refusal = allows(job)
      if (refusal !== null) return yield* Effect.fail(refusal)
      const endedAt = Math.ceil(job.finishedAt ?? 0)
      const keyMillis = endedAt + Record.idempotencyMillis - (yield* Clock.currentTimeMillis)
      const idempotency = job.idempotencyKey === null ? "" : Record.idempotencyKey(job.caller, job.idempotencyKey)
      const removed = yield* evaluate(
        client,
        Scripts.remove,
        [
          keys.job(id),
          keys.log(id),
          keys.counts,
          keys.index(job),
          keys.due("retention"),
          keys.idempotency(idempotency),
          keys.bytes,
          keys.allBytes,
        ],
        [
          id,
          version,
          countField(job.resource, job.status),
          keys.channel,
          flag(idempotency !== ""),
          endedAt,
          Math.ceil(keyMillis),
          job.caller,
        ],
      )
      if (removed === 1) return
      yield* again(tries)
      return yield* remove(id, allows, tries - 1)
    })

  return {
    client,
    keys,
    nodes,
    find,
    read: (id) => Effect.map(found(id), ({ job }) => job),
    readWithInput: (id) =>
      Effect.flatMap(
        command(() => client.hmget(keys.job(id), "job", "input")),
        ([job, input]): Effect.Effect<JobWithInput, JobNotFound | KvError> =>
          job == null || input == null
            ? new JobNotFound({ id })
            : reading(() => ({ job: Record.decodeJob(id, job), input: Record.decodeInput(id, input) })),
      ),
    readAll: (ids) =>
      Effect.gen(function* () {
        const all = yield* Effect.forEach(ids, (id) => Effect.either(find(id)), { concurrency: "unbounded" })
        const jobs: Array<Job> = []
        for (const each of all) {
          if (Either.isRight(each)) {
            if (each.right !== null) jobs.push(each.right.job)
          } else if (each.left.reason === "malformed") yield* warn(each.left.detail)
          else return yield* each.left
        }
        return jobs
      }),
    change,
    remove,
  }
}
