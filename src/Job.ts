/**
 * The words of this program and the shape of a job. Pure: no I/O, no services.
 *
 * - **job**: the saved unit of work.
 * - **attempt**: one try of a job.
 * - **resource**: a downstream with a ceiling, such as one LLM command or account.
 * - **permit**: one unit of that ceiling.
 * - **caller**: whoever submitted a job; callers take turns at a resource.
 * - **settle**: turn every outcome of the work into a log line and a stored record.
 * - **fork**: start a settled effect as a daemon fiber.
 * - **claim**: take a queued job into a new attempt.
 * - **orphan**: an attempt whose service died, or was taken for dead.
 * - **rescue**: give an orphan its outcome or its job's next attempt.
 * - **suspect**: a job that was running in several deaths of the service; it is tried alone.
 * - **backoff**: the time between a failed attempt and the next one.
 * - **drain**: stop taking permits, let running attempts finish, hand back the rest.
 * - **webhook**: where the outcome of a job is to be told.
 * - **delivery**: the job that tells it, with attempts and backoff of its own.
 * - **idempotency key**: a caller's name for one submission; the same key gives the same job.
 *
 * The states and what moves a job between them are in `Job/Transition.ts`,
 * the failures and what each one means in `Job/JobError.ts`.
 */
import { Schema } from "effect"
import { ulid } from "ulid"
import { random } from "./Job/random.js"

/** `job_` and a ULID (https://github.com/ulid/spec): unique, not guessable, sortable by its time of creation. */
export const JobId = Schema.String.pipe(
  Schema.pattern(/^job_[0-9A-HJKMNP-TV-Z]{26}$/),
  Schema.brand("JobId"),
).annotations({ identifier: "JobId", description: "The id of a job" })
export type JobId = typeof JobId.Type

/** A new id for a job saved at `now` (milliseconds since the epoch). */
export const makeId = (now: number): JobId => JobId.make(`job_${ulid(now, random)}`)

/** The name of a resource: 1-64 letters, digits, `-`, `_` or `.`. */
export const ResourceName = Schema.String.pipe(Schema.pattern(/^[A-Za-z0-9._-]{1,64}$/)).annotations({
  identifier: "ResourceName",
  description: "The name of a resource: 1-64 letters, digits, '-', '_' or '.'",
})

/** The name of a model, as a command line takes it: 1-200 characters, not an option, no control characters. */
export const ModelName = Schema.String.pipe(Schema.pattern(/^(?!-)\P{Cc}{1,200}$/u)).annotations({
  identifier: "ModelName",
  description: "The name of a model: 1-200 characters, none of them a control character, the first one not '-'",
})

/**
 * `queued → running → succeeded | failed | cancelled`, as `docs/states.md` draws it.
 *
 * - `queued`: saved, waiting for a permit or for the end of its backoff.
 * - `running`: an attempt has begun, and its outcome is not stored yet.
 * - `succeeded`, `failed`, `cancelled`: terminal; never changes again.
 */
export const Status = Schema.Literal("queued", "running", "succeeded", "failed", "cancelled").annotations({
  identifier: "Status",
})
export type Status = typeof Status.Type

/** The states that never change. */
export const terminal = ["succeeded", "failed", "cancelled"] as const satisfies ReadonlyArray<Status>

/** Whether a job in this state will never change again. */
export const isTerminal = (status: Status): status is (typeof terminal)[number] =>
  status === "succeeded" || status === "failed" || status === "cancelled"

/** What a failed attempt leaves in the record: written for the person who reads it. */
export const Failure = Schema.Struct({
  /** The tag of the error, as `docs/errors.md` lists them, or a tag of your own work. */
  tag: Schema.String,
  /** The same for every failure with this tag. */
  title: Schema.String,
  /** What happened this time. */
  detail: Schema.String,
  /** Whether another attempt could succeed. */
  retryable: Schema.Boolean,
  /** Milliseconds that the downstream asked us to wait. */
  retryAfterMillis: Schema.optional(Schema.Number),
  /** The exit code of the command. */
  exitCode: Schema.optional(Schema.Number),
  /** The status that a webhook's receiver answered. */
  httpStatus: Schema.optional(Schema.Number),
  /** The end of what the command wrote to its standard error, at most 4 KiB. */
  stderr: Schema.optional(Schema.String),
  /** The rendered cause, at most 8 KiB: of defects, the only description there is. */
  cause: Schema.optional(Schema.String),
})
export type Failure = typeof Failure.Type

/** What an attempt used, as far as its command line tells. */
export const Usage = Schema.Struct({
  inputTokens: Schema.optional(Schema.Number),
  outputTokens: Schema.optional(Schema.Number),
  costUsd: Schema.optional(Schema.Number),
})
export type Usage = typeof Usage.Type

/** In a record. JSON writes a number that is not finite as `null`, which is read as absent. */
const StoredNumber = Schema.optionalWith(Schema.Number, { nullable: true })

/** `Failure`, as records hold it. */
export const StoredFailure = Schema.Struct({
  ...Failure.fields,
  retryAfterMillis: StoredNumber,
  exitCode: StoredNumber,
  httpStatus: StoredNumber,
})

/** `Usage`, as records hold it. */
export const StoredUsage = Schema.Struct({
  inputTokens: StoredNumber,
  outputTokens: StoredNumber,
  costUsd: StoredNumber,
})

/** How the processes of an attempt were ended: by this service, and not by themselves. */
export const Ending = Schema.Struct({
  /** The signals that were sent to all of them, in order. */
  signals: Schema.Array(Schema.String),
  /** How the command went: by its exit code, or by a signal. */
  exitCode: Schema.NullOr(Schema.Number),
  signal: Schema.NullOr(Schema.String),
  /** Milliseconds from the first signal until none of them was left. */
  millis: Schema.Number,
  /**
   * How it is known that none is left: the kernel ended their PID `namespace`; their `reaper`, which adopts what loses
   * its parent, has no child left; their `cgroup` is empty; or a `search` of all processes for what they inherited found
   * none, from which one that means to can hide.
   */
  knownBy: Schema.optional(Schema.Literal("namespace", "reaper", "cgroup", "search")),
})
export type Ending = typeof Ending.Type

/**
 * How an attempt ended. `failed` alone counts towards `maxAttempts`.
 *
 * - `succeeded`, `failed`: the work ended by itself, or at one of its limits.
 * - `refused`: the machine or the downstream did not let it begin. 100 of them fail the job.
 * - `cancelled`: its caller asked for its end.
 * - `interrupted`: the service ended it on purpose: a drain, or the watchdog of a process that was held up. It never
 *   fails a job; from the second one in a row on, the job waits before its next attempt.
 * - `orphaned`: the service died while it ran, or was taken for dead. A job with two of them is a suspect: it is tried
 *   alone, and a third one, of an attempt that ran alone, fails it.
 */
export const AttemptOutcome = Schema.Literal("succeeded", "failed", "refused", "cancelled", "interrupted", "orphaned")
export type AttemptOutcome = typeof AttemptOutcome.Type

/** One try of a job, kept in its history for ever. Times are milliseconds since the epoch. */
export const Attempt = Schema.Struct({
  /** From 1. Every write of an attempt is fenced by it. */
  attempt: Schema.Number,
  /** What ran it: the name of the adapter, such as `demo` or `claude`. */
  adapter: Schema.String,
  startedAt: Schema.Number,
  finishedAt: Schema.NullOr(Schema.Number),
  outcome: Schema.NullOr(AttemptOutcome),
  cause: Schema.NullOr(StoredFailure),
  usage: Schema.NullOr(StoredUsage),
  ending: Schema.NullOr(Ending),
  /** Nothing else ran in its process: the job was a suspect when the attempt began. Default: others may have run. */
  alone: Schema.optional(Schema.Boolean),
})
export type Attempt = typeof Attempt.Type

/** What the work is given. Stored beside the job, so that a change of state never rewrites a large prompt. */
export const Input = Schema.Struct({
  prompt: Schema.String,
  model: Schema.optional(Schema.String),
  system: Schema.optional(Schema.String),
})
export type Input = typeof Input.Type

/** Where a job's outcome is to be told, and what its delivery will be. */
export const Webhook = Schema.Struct({
  url: Schema.String,
  /** The id of the delivery, from the submission on: the `webhook-id` of every attempt. */
  delivery: JobId,
  maxAttempts: Schema.Number,
  timeoutMillis: Schema.Number,
})
export type Webhook = typeof Webhook.Type

/** The resource of deliveries. It is the service's own: no setting names it, no submission can. */
export const deliveries = "webhooks"

/** The caller's own labels. */
export const Metadata = Schema.Record({ key: Schema.String, value: Schema.String })
export type Metadata = typeof Metadata.Type

/** `null` where a record does not have the member. */
const orNull = <A, I>(schema: Schema.Schema<A, I>) =>
  Schema.optionalWith(Schema.NullOr(schema), { default: () => null })

/**
 * A job as it is stored, without its input and its output, which stand beside it.
 * Times are milliseconds since the epoch; durations are milliseconds.
 */
export const Job = Schema.Struct({
  id: JobId,
  /** Its place in the queue and in listings: counts up by one with each job of a store. */
  sequence: Schema.Number,
  resource: Schema.String,
  caller: Schema.String,
  status: Status,
  /** The number of the newest attempt; 0 before the first. */
  attempt: Schema.Number,
  /** How many attempts may fail before the job does. See `AttemptOutcome` for those that do not count. */
  maxAttempts: Schema.Number,
  /** The longest that one attempt may run. */
  timeoutMillis: Schema.Number,
  /** What all of its attempts together may cost, in US dollars. */
  maxCostUsd: orNull(Schema.Number),
  createdAt: Schema.Number,
  startedAt: orNull(Schema.Number),
  finishedAt: orNull(Schema.Number),
  cancelRequestedAt: orNull(Schema.Number),
  /** While queued after an attempt that must be waited out: when its backoff ends. */
  retryAt: orNull(Schema.Number),
  /** When it must have ended, waiting included. */
  deadlineAt: orNull(Schema.Number),
  metadata: Metadata,
  idempotencyKey: orNull(Schema.String),
  webhook: orNull(Webhook),
  /** Of a delivery: the job whose outcome it tells, and where. */
  deliveryOf: orNull(Schema.Struct({ id: JobId, url: Schema.String })),
  /** Why it failed, or why its newest attempt did. */
  error: orNull(StoredFailure),
  /** What its newest attempt used. */
  usage: orNull(StoredUsage),
  truncated: Schema.Boolean,
  attempts: Schema.Array(Attempt),
  /** Of a delivery that was queued again: the number of its newest attempt then. What it counts begins after that. */
  attemptsBefore: Schema.optionalWith(Schema.Number, { default: () => 0 }),
  /** How many events its log holds. */
  events: Schema.Number,
  /** The first event of the newest attempt: its output begins there. */
  outputFrom: Schema.Number,
  /** Where the newest attempt's next piece of output begins. */
  outputEnd: Schema.optionalWith(Schema.Number, { default: () => 0 }),
  /** What the claim of the newest attempt was named, if it was. */
  claim: orNull(Schema.String),
})
export type Job = typeof Job.Type

/**
 * One entry of a job's log, numbered from 1 without a gap. The event stream is this log read from a given number,
 * so that it can be resumed anywhere.
 */
export const Event = Schema.Union(
  Schema.Struct({
    type: Schema.Literal("status"),
    event: Schema.Number,
    at: Schema.Number,
    status: Status,
    attempt: Schema.Number,
    error: Schema.NullOr(StoredFailure),
  }),
  Schema.Struct({
    type: Schema.Literal("output"),
    event: Schema.Number,
    at: Schema.Number,
    attempt: Schema.Number,
    text: Schema.String,
  }),
)
export type Event = typeof Event.Type

/** A piece of an attempt's output. `at`: how many UTF-16 code units of the output come before it. */
export interface Piece {
  readonly at: number
  readonly text: string
}

/** What work returns when it succeeds; its text has been emitted while it ran. */
export const Output = Schema.Struct({
  usage: Schema.optional(StoredUsage),
  /** Whether text was left out to respect a limit. */
  truncated: Schema.optional(Schema.Boolean),
})
export type Output = typeof Output.Type
