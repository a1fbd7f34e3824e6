/**
 * What the world is told of a job: for each change of its state one log line, with the same fields, and a count. Never
 * its input, its output or its `stderr`.
 */
import { Effect, HashMap } from "effect"
import { type Disposition, dispositions } from "../Job/JobError.js"
import { toIso } from "../Job/Plausible.js"
import { isTerminal, type Job } from "../Job.js"
import { add, observe } from "../Metrics.js"
import * as PlainLog from "./PlainLog.js"

/** What every line of a job's life carries. */
const annotations = (job: Job) => ({
  module: "Offload",
  jobId: job.id,
  resource: job.resource,
  attempt: job.attempt,
  status: job.status,
  ...(job.deliveryOf === null ? {} : { deliveryOf: job.deliveryOf.id }),
})

const logJob = (message: string, job: Job): Effect.Effect<void> =>
  Effect.logInfo(message).pipe(Effect.annotateLogs(annotations(job)))

const countSubmitted = (job: Job): void => add("offload_jobs_submitted_total", { resource: job.resource })

/** A job was saved. */
export const logSubmitted = (job: Job): Effect.Effect<void> => {
  countSubmitted(job)
  return logJob("job queued", job)
}

/** The same without a fiber at a time: the line goes where those of the fiber go that asks for this. */
export const submittedLog: Effect.Effect<(job: Job, now: number) => void> = Effect.map(
  Effect.all([PlainLog.info, Effect.logAnnotations]),
  ([write, own]) => {
    /** By resource: what the lines of two new jobs share is all but the id. */
    const known = new Map<string, PlainLog.Annotations>()
    const annotationsOf = (job: Job): PlainLog.Annotations => {
      const found =
        known.get(job.resource) ?? HashMap.union(own, HashMap.fromIterable(Object.entries(annotations(job))))
      known.set(job.resource, found)
      return HashMap.set(found, "jobId", job.id)
    }
    return (job, now) => {
      countSubmitted(job)
      write("job queued", annotationsOf(job), now)
    }
  },
)

/** An attempt of a job began. */
export const logBegun = (job: Job): Effect.Effect<void> => {
  if (job.attempt === 1 && job.startedAt !== null) {
    observe("offload_wait_seconds", { resource: job.resource }, (job.startedAt - job.createdAt) / 1000)
  }
  return logJob("job running", job)
}

/** A cancel was asked for: of a job that waited, or of one that is to be ended. */
export const logCancel = (job: Job): Effect.Effect<void> => {
  if (job.status === "cancelled") countEnded(job)
  return logJob(job.status === "cancelled" ? "job cancelled" : "job is being cancelled", job)
}

/** A delivery that had ended is queued again, because somebody asked for it. */
export const logRedelivery = (job: Job): Effect.Effect<void> => logJob("delivery queued again", job)

const countEnded = ({ error, resource, status }: Job): void =>
  add("offload_jobs_ended_total", { resource, status, error: status === "cancelled" ? "" : (error?.tag ?? "") })

const countOutcome = (job: Job): void => {
  const { resource } = job
  const last = job.attempts.at(-1)
  if (last !== undefined && last.outcome !== null && last.finishedAt !== null) {
    add("offload_attempts_ended_total", { resource, outcome: last.outcome, error: last.cause?.tag ?? "" })
    observe("offload_service_seconds", { resource }, (last.finishedAt - last.startedAt) / 1000)
  }
  if (isTerminal(job.status)) countEnded(job)
}

/** An attempt of a job has ended. */
export const logOutcome = (job: Job, level: Disposition["level"]): Effect.Effect<void> => {
  countOutcome(job)
  const last = job.attempts.at(-1)
  const error = job.status === "cancelled" ? null : job.error
  const message = job.status === "queued" ? "job queued again" : `job ${job.status}`
  return log[error === null ? "Info" : level](message).pipe(
    Effect.annotateLogs({
      ...annotations(job),
      ...(last === undefined || last.finishedAt === null ? {} : { millis: last.finishedAt - last.startedAt }),
      ...(last === undefined || last.outcome === null ? {} : { outcome: last.outcome }),
      ...(error === null ? {} : { error: error.tag, detail: error.detail }),
      ...(job.retryAt === null ? {} : { retryAt: toIso(job.retryAt) }),
    }),
  )
}

const log = {
  Info: Effect.logInfo,
  Warning: Effect.logWarning,
  Error: Effect.logError,
} satisfies Record<Disposition["level"], (message: string) => Effect.Effect<void>>

/** A job's time in the queue has ended with its deadline. */
export const logExpired = (job: Job): Effect.Effect<void> => {
  countEnded(job)
  return log[dispositions.Expired.level]("job failed").pipe(
    Effect.annotateLogs({ ...annotations(job), error: job.error?.tag, detail: job.error?.detail }),
  )
}

const attempts = (count: number): string => (count === 1 ? "1 running attempt" : `${count} running attempts`)

/** For a person who has pressed Ctrl-C, and asks why the service is still there. */
export const logDraining = (running: number, graceMillis: number): Effect.Effect<void> =>
  Effect.logInfo(
    running === 0
      ? "draining: nothing runs"
      : `draining: waits up to ${graceMillis / 1000} s for ${attempts(running)}, then interrupts what is left`,
  ).pipe(Effect.annotateLogs({ running, graceMillis }))

export const logInterrupting = (running: number, killGraceMillis: number): Effect.Effect<void> =>
  Effect.logInfo(
    `interrupting ${attempts(running)}: the processes have ${killGraceMillis / 1000} s to end, and the jobs go back to the queue`,
  )
