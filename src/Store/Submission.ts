/** Saves a job, once for each idempotency key, and within the limit of its queue. */
import { type Effect, Either } from "effect"
import * as Transition from "../Job/Transition.js"
import type { Job } from "../Job.js"
import { IdempotencyConflict, QueueFull } from "../Store.js"
import { answer, type Plan } from "./Commit.js"
import type { Jobs } from "./Jobs.js"
import { type KvError, type Op, put } from "./Kv.js"
import * as Record from "./Record.js"
import type { Limits } from "./Tally.js"

/** How long the first use of a key counts. */
export const idempotencyMillis = 24 * 60 * 60 * 1000

interface Submitted {
  readonly job: Job
  readonly created: boolean
}

export const create = (
  jobs: Jobs,
  submission: Transition.NewJob,
  limits: Limits,
): Effect.Effect<Submitted, IdempotencyConflict | QueueFull | KvError> => {
  const { caller, id, idempotency } = submission

  /** A call that failed as `unavailable` may have saved the job after all, before it is made again. */
  const unlessSaved = (now: number, more: ReadonlyArray<Op>): Either.Either<Plan<Submitted>, QueueFull> => {
    const job = jobs.find(id)
    return job === null ? save(jobs, submission, limits, now, more) : Either.right(answer({ job, created: false }))
  }

  if (idempotency === null) return jobs.run([id], (now) => unlessSaved(now, []))
  const key = Record.idempotencyKey(caller, idempotency.key)
  const { fingerprint } = idempotency
  return jobs.run([key, id], (now): Either.Either<Plan<Submitted>, IdempotencyConflict | QueueFull> => {
    const use = jobs.firstUse(key)
    const job = use === null || now - use.at >= idempotencyMillis ? null : jobs.find(use.id)
    if (job === null)
      return unlessSaved(now, [put("idempotency", key, Record.encodeFirstUse({ id, fingerprint, at: now }))])
    return use?.fingerprint === fingerprint
      ? Either.right(answer({ job, created: false }))
      : Either.left(new IdempotencyConflict({ key: idempotency.key, id: job.id }))
  })
}

const save = (
  jobs: Jobs,
  submission: Transition.NewJob,
  limits: Limits,
  now: number,
  more: ReadonlyArray<Op>,
): Either.Either<Plan<Submitted>, QueueFull> => {
  const { id, input, resource } = submission
  const full = jobs.tally.reserve(submission, limits)
  if (full !== null) {
    const limit = full === "caller" ? (limits.maxQueuedPerCaller ?? 0) : limits.maxQueued
    return Either.left(new QueueFull({ resource, scope: full, limit }))
  }
  const job = Transition.create(submission, jobs.nextSequence(), now)
  const writes = [put("inputs", id, JSON.stringify(input)), ...more]
  const { answer, onCommitted, ops } = jobs.move<Submitted>(null, job, now, { job, created: true }, writes)
  return Either.right({
    ops,
    answer,
    onCommitted: () => {
      onCommitted?.()
      jobs.tally.release(submission)
    },
    onFailed: () => jobs.tally.release(submission),
  })
}
