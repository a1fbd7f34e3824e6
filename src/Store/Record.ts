/**
 * What stands in the tables. Everything but `jobs`, `inputs`, `events` and `idempotency` is an index, and the keys of
 * each index are a function of the job's record (`indices`), so that they cannot say anything else.
 *
 * | table | key | value |
 * |---|---|---|
 * | jobs | id | the job |
 * | inputs | id | its input |
 * | events | id, event | an event of its log; the first one is that the job was queued, and is not there |
 * | ready | resource, caller, sequence: of jobs that can be claimed now | id |
 * | index | caller, resource, status, sequence: of all others | id |
 * | running | id | who claimed it: the process, by a name that no other has |
 * | timers | `backoff`, `deadline` or `retention`, the time it counts from, id | id |
 * | timers | `key`, the end of its job, a digest as in `idempotency` | the digest |
 * | idempotency | a digest of caller and key | the first use of the key, also of a job that was removed |
 * | meta | `format`, `ping`; `drain`, process: it said that it drains | |
 * | meta | `bytes`, caller, id | how large the job is; there is none of jobs of an earlier version |
 */
import { createHash } from "node:crypto"
import { Either, ParseResult, Schema } from "effect"
import { Event, Input, isTerminal, Job, JobId } from "../Job.js"
import * as Key from "./Key.js"
import { KvError, type Op, put, remove, type Table } from "./Kv.js"

/** The first use of an idempotency key. `endedAt`: its job ended then, and was removed. */
export const FirstUse = Schema.Struct({
  id: JobId,
  fingerprint: Schema.String,
  at: Schema.Number,
  endedAt: Schema.optional(Schema.Number),
})
export type FirstUse = typeof FirstUse.Type

/** How long the use of a key counts after the end of its job. */
export const idempotencyMillis = 24 * 60 * 60 * 1000

/** Whether the use of a key counts, whose job is this one, or is no more. */
export const counts = ({ endedAt }: FirstUse, job: Job | null, now: number): boolean => {
  const end = job === null ? endedAt : job.finishedAt
  return end === null || (end !== undefined && now - end < idempotencyMillis)
}

/** Throws `KvError`. */
const decoder = <A, I>(what: string, schema: Schema.Schema<A, I>) => {
  const decode = Schema.decodeUnknownEither(Schema.parseJson(schema))
  return (id: string, text: string): A =>
    Either.getOrThrowWith(decode(text), (error) => {
      // Only where it went wrong: the message of the error repeats the record, and a prompt must not get into a log.
      const path = ParseResult.ArrayFormatter.formatErrorSync(error)[0]?.path.join(".")
      const where = path === undefined || path === "" ? "" : ` at '${path}'`
      return new KvError({ reason: "malformed", detail: `the ${what} of '${id}' cannot be read${where}` })
    })
}

export const decodeJob = decoder("record", Job)
export const decodeInput = decoder("input", Input)
export const decodeEvent = decoder("log", Event)
export const decodeFirstUse = decoder("idempotency record", FirstUse)

/** Without the members that are `null`, of which a queued job has a dozen: almost half of its record. */
export const encodeJob = (job: Job): string =>
  JSON.stringify({
    ...job,
    maxCostUsd: job.maxCostUsd ?? undefined,
    startedAt: job.startedAt ?? undefined,
    finishedAt: job.finishedAt ?? undefined,
    cancelRequestedAt: job.cancelRequestedAt ?? undefined,
    retryAt: job.retryAt ?? undefined,
    deadlineAt: job.deadlineAt ?? undefined,
    idempotencyKey: job.idempotencyKey ?? undefined,
    webhook: job.webhook ?? undefined,
    deliveryOf: job.deliveryOf ?? undefined,
    error: job.error ?? undefined,
    attemptsBefore: job.attemptsBefore === 0 ? undefined : job.attemptsBefore,
    usage: job.usage ?? undefined,
    claim: job.claim ?? undefined,
  })

export const encodeFirstUse = (use: FirstUse): string => JSON.stringify(use)

const keyTimer = (endedAt: number, key: string): string => Key.key("key", endedAt, key)

/** What keeps the use of a key whose job is removed, for as long as it counts; or removes it. */
export const leaveUse = (key: string, use: FirstUse, { finishedAt }: Job, now: number): ReadonlyArray<Op> =>
  finishedAt === null || now - finishedAt >= idempotencyMillis
    ? [remove("idempotency", key)]
    : [
        put("idempotency", key, encodeFirstUse({ ...use, endedAt: finishedAt })),
        put("timers", keyTimer(finishedAt, key), key),
      ]

/** What removes the use of a key that counts no longer; it may be that of a later job by now. */
export const forgetUse = (key: string, use: FirstUse | null, timer: string): ReadonlyArray<Op> => [
  remove("timers", timer),
  ...(use?.endedAt !== undefined && keyTimer(use.endedAt, key) === timer ? [remove("idempotency", key)] : []),
]

interface Index {
  readonly table: Table
  readonly key: string
}

export const indexKey = (job: Pick<Job, "caller" | "resource" | "status" | "sequence">): string =>
  Key.key(job.caller, job.resource, job.status, job.sequence)

export const readyKey = (job: Pick<Job, "resource" | "caller" | "sequence">): string =>
  Key.key(job.resource, job.caller, job.sequence)

/** Whether the job can be claimed now: queued, and not in backoff. */
export const isReady = (job: Job): boolean => job.status === "queued" && job.retryAt === null

const indices = (job: Job): ReadonlyArray<Index> => {
  const all: Array<Index> = [
    isReady(job) ? { table: "ready", key: readyKey(job) } : { table: "index", key: indexKey(job) },
  ]
  if (job.status === "running") all.push({ table: "running", key: job.id })
  if (job.status === "queued") {
    if (job.retryAt !== null) all.push({ table: "timers", key: Key.key("backoff", job.retryAt, job.id) })
    if (job.deadlineAt !== null) all.push({ table: "timers", key: Key.key("deadline", job.deadlineAt, job.id) })
  }
  if (isTerminal(job.status) && job.finishedAt !== null) {
    all.push({ table: "timers", key: Key.key("retention", job.finishedAt, job.id) })
  }
  return all
}

const isIn = (indices: ReadonlyArray<Index>, { key, table }: Index) =>
  indices.some((other) => other.table === table && other.key === key)

/** What writes the record `after`, and the indices that `before` did not have. */
export const write = (before: Job | null, after: Job): Array<Op> => {
  const old = before === null ? [] : indices(before)
  const now = indices(after)
  const ops = [put("jobs", after.id, encodeJob(after))]
  for (const index of old) if (!isIn(now, index)) ops.push(remove(index.table, index.key))
  for (const index of now) if (!isIn(old, index)) ops.push(put(index.table, index.key, after.id))
  return ops
}

/** What writes a job that there was not, with its input. */
export const writeNew = (job: Job, input: Input): Array<Op> => [
  ...write(null, job),
  put("inputs", job.id, JSON.stringify(input)),
]

/** Where the size of a job stands. */
export const bytesKey = ({ caller, id }: Pick<Job, "caller" | "id">): string => Key.key("bytes", caller, id)

/** How many bytes operations add to a job: its input and its log, and of a new one its record. */
export const bytesOf = (ops: ReadonlyArray<Op>, isNew: boolean): number =>
  ops.reduce(
    (sum, op) =>
      op._tag === "Put" && (op.table === "inputs" || op.table === "events" || (isNew && op.table === "jobs"))
        ? sum + Buffer.byteLength(op.value)
        : sum,
    0,
  )

/** What removes the record, its indices and its input, but not its log. */
export const erase = (job: Job): Array<Op> => [
  remove("jobs", job.id),
  remove("inputs", job.id),
  ...indices(job).map(({ key, table }) => remove(table, key)),
]

/** The first event of every log: all that it says stands in the record. */
export const firstEvent = ({ createdAt }: Job): Event => ({
  type: "status",
  event: 1,
  at: createdAt,
  status: "queued",
  attempt: 0,
  error: null,
})

/** The newest event of a job that has just changed its state, as JSON. */
export const statusEvent = (job: Job, at: number): string => {
  const { attempt, error, events, status } = job
  const event: Event = { type: "status", event: events, at, status, attempt, error }
  return JSON.stringify(event)
}

/** An event of a job's output, as JSON. */
export const outputEvent = ({ attempt }: Job, event: number, at: number, text: string): string => {
  const output: Event = { type: "output", event, at, attempt, text }
  return JSON.stringify(output)
}

export const writeStatus = (job: Job, at: number): Op =>
  put("events", Key.key(job.id, job.events), statusEvent(job, at))

export const writeOutput = (job: Job, event: number, at: number, text: string): Op =>
  put("events", Key.key(job.id, event), outputEvent(job, event, at, text))

/** The key of `FirstUse`. A digest, because the parts may be longer than a key may be. */
export const idempotencyKey = (caller: string, key: string): string =>
  createHash("sha256")
    .update(JSON.stringify([caller, key]))
    .digest("base64url")
