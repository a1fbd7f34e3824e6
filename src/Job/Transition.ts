/**
 * The state machine of a job: pure functions from a job to its next record, or to nothing where the move is not
 * allowed. Every store applies these and no others, so that a job lives the same life in each of them.
 *
 * ```
 * queued ──claim──▶ running ──settle──▶ succeeded | failed | cancelled
 *   │ ▲                │
 *   │ └─ retry, drain, rescue ─┘
 *   ├──cancel──▶ cancelled
 *   └──expire──▶ failed (Expired)
 * ```
 *
 * A delivery alone goes back from failed or cancelled to queued, when it is asked for (`redeliver`).
 *
 * Three counts decide what follows an attempt, and none of them adds to another: failures (`maxAttempts` of them fail
 * the job), refusals (`maxRefused`), and deaths of the service (`maxDeaths` of them make the job a suspect, which runs
 * alone; one more, of an attempt that ran alone, fails it).
 */
import { Schema } from "effect"
import type { Attempt, Failure, Input, Job, JobId, Metadata, Piece, Usage, Webhook } from "../Job.js"
import { Ending, isTerminal, Output, StoredFailure, StoredUsage } from "../Job.js"
import { Expired, Orphaned, toFailure } from "./JobError.js"
import * as Plausible from "./Plausible.js"

/** What a submission says; the store adds `sequence`. Durations are milliseconds. */
export interface NewJob {
  readonly id: JobId
  readonly resource: string
  readonly caller: string
  readonly input: Input
  readonly metadata: Metadata
  readonly maxAttempts: number
  readonly timeoutMillis: number
  readonly maxCostUsd: number | null
  readonly deadlineMillis: number | null
  readonly webhook: Webhook | null
  readonly idempotency: Idempotency | null
}

/** The key under which a submission may be repeated. */
export interface Idempotency {
  readonly key: string
  /** Tells whether a second submission with the same key is the same submission. */
  readonly fingerprint: string
  /** The same as an earlier version made it. Asked for only where `fingerprint` is not the stored one. */
  readonly earlierFingerprint?: () => string
}

/** Whether the submission with this fingerprint was the same. */
export const isSame = ({ earlierFingerprint, fingerprint }: Idempotency, stored: string): boolean =>
  stored === fingerprint || stored === earlierFingerprint?.()

/** What an attempt leaves behind, however it ended. */
const traces = {
  usage: Schema.optional(StoredUsage),
  ending: Schema.optional(Ending),
}

/** How the work of an attempt ended. `retryAt`: when the next attempt may begin, if there is one. */
export const Outcome = Schema.Union(
  Schema.TaggedStruct("Succeeded", { output: Output, ...traces }),
  Schema.TaggedStruct("Failed", { failure: StoredFailure, retryAt: Schema.Number, ...traces }),
  /** It could not begin, through no fault of the job. */
  Schema.TaggedStruct("Refused", { failure: StoredFailure, retryAt: Schema.Number, ...traces }),
  /** The service ended it on purpose. Without `retryAt` the next attempt may begin at once. */
  Schema.TaggedStruct("Interrupted", { retryAt: Schema.optional(Schema.UndefinedOr(Schema.Number)), ...traces }),
  Schema.TaggedStruct("Orphaned", { retryAt: Schema.Number }),
)
export type Outcome = typeof Outcome.Type

/** A job that was just saved: queued, event 1 of its log. */
export const create = (job: NewJob, sequence: number, now: number): Job => ({
  id: job.id,
  sequence,
  resource: job.resource,
  caller: job.caller,
  status: "queued",
  attempt: 0,
  maxAttempts: job.maxAttempts,
  timeoutMillis: job.timeoutMillis,
  maxCostUsd: job.maxCostUsd,
  createdAt: now,
  startedAt: null,
  finishedAt: null,
  cancelRequestedAt: null,
  retryAt: null,
  deadlineAt: job.deadlineMillis === null ? null : now + job.deadlineMillis,
  metadata: job.metadata,
  idempotencyKey: job.idempotency?.key ?? null,
  webhook: job.webhook,
  deliveryOf: null,
  error: null,
  usage: null,
  truncated: false,
  attempts: [],
  attemptsBefore: 0,
  events: 1,
  outputFrom: 1,
  outputEnd: 0,
  claim: null,
})

/** How a job is claimed. */
export interface Claim {
  /** Tells this claim from all others. Default: it has no name, and cannot be made again. */
  readonly name?: string | null | undefined
  /** Whether nothing else runs in the process that claims, or begins while the attempt runs. Default: no. */
  readonly alone?: boolean | undefined
}

/**
 * Begins the next attempt of a queued job. `null`: it is not queued, or in backoff, or its deadline has passed, or it
 * is a suspect and would not be alone. The claim that began the live attempt, made again under its name, gives the job
 * as it is.
 */
export const claim = (
  job: Job,
  adapter: string,
  now: number,
  { alone = false, name = null }: Claim = {},
): Job | null => {
  if (job.status === "running" && name !== null && job.claim === name) return job
  if (job.status !== "queued" || job.retryAt !== null || isPastDeadline(job, now)) return null
  const isTriedAlone = isSuspect(job)
  if (isTriedAlone && !alone) return null
  const attempt = job.attempt + 1
  return {
    ...job,
    status: "running",
    attempt,
    startedAt: job.startedAt ?? now,
    retryAt: null,
    error: null,
    usage: null,
    attempts: [
      ...job.attempts,
      {
        attempt,
        adapter,
        startedAt: now,
        finishedAt: null,
        outcome: null,
        cause: null,
        usage: null,
        ending: null,
        ...(isTriedAlone ? { alone: true } : {}),
      },
    ],
    events: job.events + 1,
    outputFrom: job.events + 1,
    outputEnd: 0,
    claim: name,
  }
}

/** Ends the backoff of a queued job. `null`: it is not in backoff, or its backoff has time left. */
export const ready = (job: Job, now: number): Job | null =>
  job.status === "queued" && job.retryAt !== null && job.retryAt <= now ? { ...job, retryAt: null } : null

/**
 * Ends the backoff of a queued job that waits because its downstream or the machine refused it, or told it to wait.
 * `null`: it does not wait for that.
 */
export const release = (job: Job): Job | null =>
  job.status === "queued" &&
  job.retryAt !== null &&
  (job.attempts.at(-1)?.outcome === "refused" || job.error?.retryAfterMillis !== undefined)
    ? { ...job, retryAt: null }
    : null

/**
 * Shortens a backoff that was set by a clock which was ahead, as its attempt tells, whose end is still to come: it
 * begins again at `now`, as long as it was meant to be. `null`: the job is not in such a backoff, or its backoff was
 * shortened before.
 */
export const shorten = (job: Job, now: number): Job | null => {
  const setAt = job.attempts.at(-1)?.finishedAt ?? null
  if (job.status !== "queued" || job.retryAt === null || setAt === null) return null
  return setAt > now + clockMillis && job.retryAt > setAt ? { ...job, retryAt: now + job.retryAt - setAt } : null
}

/** How far apart the clocks of two processes may be that are taken to be right. */
const clockMillis = 1000

/** Whether `attempt` is the one that may write to the job. */
export const isLive = (job: Job, attempt: number): boolean => job.status === "running" && job.attempt === attempt

/**
 * Adds to the output of the live attempt what of a piece is not there yet, and gives that text: a piece whose first
 * write seemed to fail may come again, and longer. `null`: the attempt is not the live one.
 */
export const append = (
  job: Job,
  attempt: number,
  { at, text }: Piece,
): { readonly job: Job; readonly text: string } | null => {
  if (!isLive(job, attempt)) return null
  const rest = text.slice(Math.max(0, job.outputEnd - at))
  if (rest === "") return { job, text: "" }
  return { job: { ...job, events: job.events + 1, outputEnd: at + text.length }, text: rest }
}

/**
 * Ends a running attempt. A pending cancel wins over everything but success: nobody wants a second attempt of a job
 * that they cancelled. `null`: the attempt is not the live one.
 */
export const settle = (job: Job, attempt: number, outcome: Outcome, now: number): Job | null => {
  if (!isLive(job, attempt)) return null
  const cancelled = job.cancelRequestedAt !== null
  switch (outcome._tag) {
    case "Succeeded":
      return {
        ...endAttempt(job, { ...outcome, usage: outcome.output.usage ?? outcome.usage }, "succeeded", null, now),
        status: "succeeded",
        finishedAt: now,
        error: null,
        truncated: outcome.output.truncated ?? false,
      }
    case "Interrupted":
      return cancelled
        ? { ...endAttempt(job, outcome, "cancelled", null, now), status: "cancelled", finishedAt: now }
        : { ...endAttempt(job, outcome, "interrupted", null, now), status: "queued", retryAt: outcome.retryAt ?? null }
    case "Failed":
      return again(endAttempt(job, outcome, "failed", outcome.failure, now), outcome.failure, outcome.retryAt, now)
    case "Refused":
      return again(endAttempt(job, outcome, "refused", outcome.failure, now), outcome.failure, outcome.retryAt, now)
    case "Orphaned": {
      const alone = job.attempts.at(-1)?.alone === true
      const failure = toFailure(new Orphaned({ attempt, deaths: deaths(job) + 1, alone }))
      return again(endAttempt(job, {}, "orphaned", failure, now), failure, outcome.retryAt, now)
    }
  }
}

/** After an attempt that did not succeed: queued for another one where that could help and is allowed, else ended. */
const again = (ended: Job, failure: Failure, retryAt: number, now: number): Job => {
  if (ended.cancelRequestedAt !== null) return { ...ended, error: failure, status: "cancelled", finishedAt: now }
  const hasLeft = failedAttempts(ended) < ended.maxAttempts && refusedAttempts(ended) < maxRefused
  return failure.retryable && hasLeft && !isPastDeadline(ended, retryAt)
    ? { ...ended, error: failure, status: "queued", retryAt }
    : { ...ended, error: failure, status: "failed", finishedAt: now }
}

/** Asks for a job's end: at once while queued, by its attempt's interruption while running. `null`: it has ended. */
export const cancel = (job: Job, now: number): Job | null => {
  if (isTerminal(job.status)) return null
  if (job.cancelRequestedAt !== null) return job
  return job.status === "queued"
    ? { ...job, status: "cancelled", cancelRequestedAt: now, retryAt: null, finishedAt: now, events: job.events + 1 }
    : { ...job, cancelRequestedAt: now }
}

/** Of so many attempts a delivery that is queued again keeps the history. */
const maxKeptAttempts = 50

/**
 * Queues a delivery again that has failed or was cancelled, with all of its attempts before it once more: the only
 * move out of a terminal state. It keeps its id, by which its receiver knows it. `null`: it is no such delivery.
 */
export const redeliver = (job: Job): Job | null =>
  job.deliveryOf !== null && (job.status === "failed" || job.status === "cancelled")
    ? {
        ...job,
        status: "queued",
        finishedAt: null,
        cancelRequestedAt: null,
        attempts: job.attempts.slice(-maxKeptAttempts),
        attemptsBefore: job.attempt,
        events: job.events + 1,
      }
    : null

/** Fails a queued job whose deadline has passed. `null`: it is not queued, or has time left. */
export const expire = (job: Job, now: number): Job | null =>
  job.status === "queued" && job.deadlineAt !== null && isPastDeadline(job, now)
    ? {
        ...job,
        status: "failed",
        retryAt: null,
        finishedAt: now,
        error: toFailure(new Expired({ deadlineAt: job.deadlineAt })),
        events: job.events + 1,
      }
    : null

/** How many attempts count towards `maxAttempts`. */
export const failedAttempts = (job: Job): number => count(job, "failed")

/** How many attempts could not begin. */
export const refusedAttempts = (job: Job): number => count(job, "refused")

/** So many refusals fail a job: neither its history nor its hope is endless. */
export const maxRefused = 100

/** In how many deaths of the service the job was running. */
export const deaths = (job: Job): number => count(job, "orphaned")

/** So many deaths make a job a suspect. A single one says nothing: any of those that ran may be the cause. */
export const maxDeaths = 2

/** Whether the next attempt of the job must run alone, so that the next death says whose fault it is. */
export const isSuspect = (job: Job): boolean => deaths(job) >= maxDeaths

/** How many of the newest attempts that have ended were interrupted, one after the other. */
export const interruptedInARow = (job: Job): number => {
  const ended = job.attempts.filter(({ outcome }) => outcome !== null)
  return ended.length - 1 - ended.findLastIndex(({ outcome }) => outcome !== "interrupted")
}

/** What the attempts so far have cost, in US dollars, as far as their command lines told. */
export const spentUsd = (job: Job): number =>
  job.attempts.reduce((sum, { usage }) => sum + (Plausible.amount(usage?.costUsd) ?? 0), 0)

const count = (job: Job, which: Attempt["outcome"]): number =>
  job.attempts.filter(({ attempt, outcome }) => attempt > job.attemptsBefore && outcome === which).length

const isPastDeadline = (job: Job, at: number): boolean => job.deadlineAt !== null && at >= job.deadlineAt

const endAttempt = (
  job: Job,
  { ending, usage }: { readonly usage?: Usage | undefined; readonly ending?: Ending | undefined },
  outcome: Attempt["outcome"],
  cause: Failure | null,
  now: number,
): Job => ({
  ...job,
  usage: usage ?? null,
  attempts: job.attempts.map((attempt) =>
    attempt.attempt === job.attempt
      ? { ...attempt, finishedAt: now, outcome, cause, usage: usage ?? null, ending: ending ?? null }
      : attempt,
  ),
  events: job.events + 1,
})
