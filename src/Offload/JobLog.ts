/**
 * The log lines of a job: one for each change of its state, with the same fields. Never its input, its output or its
 * `stderr`.
 */
import { Effect } from "effect"
import type { Disposition } from "../Job/JobError.js"
import type { Job } from "../Job.js"

/** What every line of a job's life carries. */
const annotations = (job: Job) => ({
  module: "Offload",
  jobId: job.id,
  resource: job.resource,
  attempt: job.attempt,
  status: job.status,
})

/** A job was saved, began, was cancelled or was removed. */
export const logJob = (message: string, job: Job): Effect.Effect<void> =>
  Effect.logInfo(message).pipe(Effect.annotateLogs(annotations(job)))

/** A job after its attempt, or its time in the queue, has ended. */
export const logOutcome = (job: Job, level: Disposition["level"]): Effect.Effect<void> => {
  const last = job.attempts.at(-1)
  const error = job.status === "cancelled" ? null : job.error
  const message = job.status === "queued" ? "job queued again" : `job ${job.status}`
  return log[error === null ? "Info" : level](message).pipe(
    Effect.annotateLogs({
      ...annotations(job),
      ...(last === undefined || last.finishedAt === null ? {} : { millis: last.finishedAt - last.startedAt }),
      ...(last === undefined || last.outcome === null ? {} : { outcome: last.outcome }),
      ...(error === null ? {} : { error: error.tag, detail: error.detail }),
      ...(job.retryAt === null ? {} : { retryAt: new Date(job.retryAt).toISOString() }),
    }),
  )
}

const log = {
  Info: Effect.logInfo,
  Warning: Effect.logWarning,
  Error: Effect.logError,
} satisfies Record<Disposition["level"], (message: string) => Effect.Effect<void>>
