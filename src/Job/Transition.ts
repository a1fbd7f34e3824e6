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
 */
import type { Attempt, Failure, Input, Job, JobId, Metadata, Output } from "../Job.js"
import { isTerminal } from "../Job.js"
import { Expired, Orphaned, toFailure } from "./JobError.js"

/** What a submission says; the store adds `sequence`. Durations are milliseconds. */
export interface NewJob {
  readonly id: JobId
  readonly resource: string
  readonly caller: string
  readonly input: Input
  readonly metadata: Metadata
  readonly maxAttempts: number
  readonly timeoutMillis: number
  readonly deadlineMillis: number | null
  /** `fingerprint` tells whether a second submission with the same key is the same submission. */
  readonly idempotency: { readonly key: string; readonly fingerprint: string } | null
}

/** How the work of an attempt ended. */
export type Outcome =
  | { readonly _tag: "Succeeded"; readonly output: Output }
  /** `retryAt`: when the next attempt may begin, if there is one. */
  | { readonly _tag: "Failed"; readonly failure: Failure; readonly retryAt: number }
  | { readonly _tag: "Interrupted" }
  | { readonly _tag: "Orphaned"; readonly retryAt: number }

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
  createdAt: now,
  startedAt: null,
  finishedAt: null,
  cancelRequestedAt: null,
  retryAt: null,
  deadlineAt: job.deadlineMillis === null ? null : now + job.deadlineMillis,
  metadata: job.metadata,
  idempotencyKey: job.idempotency?.key ?? null,
  error: null,
  usage: null,
  truncated: false,
  attempts: [],
  events: 1,
  outputFrom: 1,
})

/** Begins the next attempt of a queued job. `null`: it is not queued, or its deadline has passed. */
export const claim = (job: Job, adapter: string, now: number): Job | null => {
  if (job.status !== "queued" || isPastDeadline(job, now)) return null
  const attempt = job.attempt + 1
  return {
    ...job,
    status: "running",
    attempt,
    startedAt: job.startedAt ?? now,
    retryAt: null,
    error: null,
    attempts: [...job.attempts, { attempt, adapter, startedAt: now, finishedAt: null, outcome: null, cause: null }],
    events: job.events + 1,
    outputFrom: job.events + 1,
  }
}

/** Ends the backoff of a queued job. `null`: it is not in backoff, or its backoff has time left. */
export const ready = (job: Job, now: number): Job | null =>
  job.status === "queued" && job.retryAt !== null && job.retryAt <= now ? { ...job, retryAt: null } : null

/** Whether `attempt` is the one that may write to the job. */
export const isLive = (job: Job, attempt: number): boolean => job.status === "running" && job.attempt === attempt

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
        ...endAttempt(job, "succeeded", null, now),
        status: "succeeded",
        finishedAt: now,
        error: null,
        usage: outcome.output.usage ?? null,
        truncated: outcome.output.truncated ?? false,
      }
    case "Interrupted":
      return cancelled
        ? { ...endAttempt(job, "cancelled", null, now), status: "cancelled", finishedAt: now }
        : { ...endAttempt(job, "interrupted", null, now), status: "queued" }
    case "Failed":
    case "Orphaned": {
      const orphaned = outcome._tag === "Orphaned"
      const failure = orphaned ? toFailure(new Orphaned({ attempt })) : outcome.failure
      const ended = { ...endAttempt(job, orphaned ? "orphaned" : "failed", failure, now), error: failure }
      if (cancelled) return { ...ended, status: "cancelled", finishedAt: now }
      return failure.retryable && failedAttempts(ended) < job.maxAttempts && !isPastDeadline(job, outcome.retryAt)
        ? { ...ended, status: "queued", retryAt: outcome.retryAt }
        : { ...ended, status: "failed", finishedAt: now }
    }
  }
}

/** Asks for a job's end: at once while queued, by its attempt's interruption while running. `null`: it has ended. */
export const cancel = (job: Job, now: number): Job | null => {
  if (isTerminal(job.status)) return null
  if (job.cancelRequestedAt !== null) return job
  return job.status === "queued"
    ? { ...job, status: "cancelled", cancelRequestedAt: now, retryAt: null, finishedAt: now, events: job.events + 1 }
    : { ...job, cancelRequestedAt: now }
}

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

/** How many attempts count towards `maxAttempts`: interrupted ones do not. */
export const failedAttempts = (job: Job): number =>
  job.attempts.filter(({ outcome }) => outcome === "failed" || outcome === "orphaned").length

const isPastDeadline = (job: Job, at: number): boolean => job.deadlineAt !== null && at >= job.deadlineAt

const endAttempt = (job: Job, outcome: Attempt["outcome"], cause: Failure | null, now: number): Job => ({
  ...job,
  attempts: job.attempts.map((attempt) =>
    attempt.attempt === job.attempt ? { ...attempt, finishedAt: now, outcome, cause } : attempt,
  ),
  events: job.events + 1,
})
