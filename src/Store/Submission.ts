/** Saves a job, once for each idempotency key, and within the limit of its queue. */
import { Effect, Either } from "effect"
import * as Transition from "../Job/Transition.js"
import { IdempotencyConflict, JobGone, QueueFull, StoreFull, type Submitted } from "../Store.js"
import { answer, type Decide, type Done, type Plan } from "./Commit.js"
import type { Jobs } from "./Jobs.js"
import { type KvError, type Op, put } from "./Kv.js"
import type { Refusal } from "./Named.js"
import * as Record from "./Record.js"
import type { Limits } from "./Tally.js"

/** What is decided about a submission, and under which locks. */
interface Submitting {
  readonly keys: ReadonlyArray<string>
  readonly decide: Decide<Submitted, Refusal>
}

/** Saves a submission. */
export const create = (
  jobs: Jobs,
  submission: Transition.NewJob,
  limits: Limits,
): Effect.Effect<Submitted, Refusal | KvError> => {
  const { decide, keys } = submitting(jobs, submission, limits)
  return Effect.map(jobs.run(keys, decide), withCounts(jobs))
}

/** The same without a fiber; `false`: it has to wait for another one, and nothing was done. */
export const begin = (
  jobs: Jobs,
  submission: Transition.NewJob,
  limits: Limits,
  now: number,
  done: Done<Submitted, Refusal>,
): boolean => {
  const { decide, keys } = submitting(jobs, submission, limits)
  return jobs.begin(keys, decide, now, (result) => done(Either.map(result, withCounts(jobs))))
}

/** A job that was just saved, with its place in the queue. */
const withCounts =
  ({ tally }: Jobs) =>
  (submitted: Submitted): Submitted => {
    const { created, job } = submitted
    const counts = created ? tally.of(job.resource) : null
    return counts === null ? submitted : { job, created, counts }
  }

const submitting = (jobs: Jobs, submission: Transition.NewJob, limits: Limits): Submitting => {
  const { caller, id, idempotency } = submission

  /** A call that failed as `unavailable` may have saved the job after all, before it is made again. */
  const unlessSaved = (now: number, more: ReadonlyArray<Op>): Either.Either<Plan<Submitted>, QueueFull | StoreFull> => {
    const job = jobs.find(id)
    return job === null ? save(jobs, submission, limits, now, more) : Either.right(answer({ job, created: false }))
  }

  if (idempotency === null) return { keys: [id], decide: (now) => unlessSaved(now, []) }
  const key = Record.idempotencyKey(caller, idempotency.key)
  const { fingerprint } = idempotency
  return {
    keys: [key, id],
    decide: (now) => {
      const use = jobs.firstUse(key)
      const job = use === null ? null : jobs.find(use.id)
      if (use === null || !Record.counts(use, job, now)) {
        return unlessSaved(now, [put("idempotency", key, Record.encodeFirstUse({ id, fingerprint, at: now }))])
      }
      if (!Transition.isSame(idempotency, use.fingerprint)) {
        return Either.left(new IdempotencyConflict({ key: idempotency.key, id: use.id }))
      }
      return job === null
        ? Either.left(new JobGone({ key: idempotency.key, id: use.id }))
        : Either.right(answer({ job, created: false }))
    },
  }
}

const save = (
  jobs: Jobs,
  submission: Transition.NewJob,
  limits: Limits,
  now: number,
  more: ReadonlyArray<Op>,
): Either.Either<Plan<Submitted>, QueueFull | StoreFull> => {
  const { caller, id, input, resource } = submission
  const full = jobs.tally.reserve(submission, limits)
  if (full !== null) {
    const limit = full === "caller" ? (limits.maxQueuedPerCaller ?? 0) : limits.maxQueued
    return Either.left(new QueueFull({ resource, scope: full, limit }))
  }
  const job = Transition.create(submission, jobs.nextSequence(), now)
  const writes = [put("inputs", id, JSON.stringify(input)), ...more]
  const { answer, onCommitted, ops } = jobs.move<Submitted>(null, job, now, { job, created: true }, writes)
  const bytes = Record.bytesOf(ops, true)
  const passed = jobs.tally.passed(caller, bytes, limits)
  if (passed !== null) {
    jobs.tally.release(submission)
    return Either.left(storeFull(passed, limits))
  }
  // Counted from here on, and again by the commit itself.
  jobs.tally.addBytes(caller, bytes)
  const release = () => {
    jobs.tally.release(submission)
    jobs.tally.addBytes(caller, -bytes)
  }
  return Either.right({
    ops,
    answer,
    isGrowth: true,
    onCommitted: () => {
      onCommitted?.()
      release()
    },
    onFailed: release,
  })
}

export const storeFull = (scope: "store" | "caller", { maxBytes, maxBytesPerCaller }: Limits): StoreFull =>
  new StoreFull({ scope, limitBytes: scope === "caller" ? maxBytesPerCaller : maxBytes })
