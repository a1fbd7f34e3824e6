/** What a change of a job decides: pure, from a record to the next, and the same in every store. */
import { Either } from "effect"
import * as Transition from "../Job/Transition.js"
import type { Job, Piece } from "../Job.js"
import { StaleAttempt } from "../Store.js"

export interface Decision<A> {
  readonly answer: A
  /** The next record, and the text that the output gains as the event before; `null`: nothing changes. */
  readonly next: { readonly job: Job; readonly text: string } | null
}

const nothing: Piece = { at: 0, text: "" }

/** `Transition.claim`, of a process that begins nothing once it drains; what it has begun it is told again. */
export const claim = (
  job: Job,
  adapter: string,
  now: number,
  how: Transition.Claim | undefined,
  isDraining: boolean,
): Job | null => {
  const claimed = Transition.claim(job, adapter, now, how)
  return isDraining && claimed !== job ? null : claimed
}

export const append = (job: Job, attempt: number, piece: Piece): Either.Either<Decision<void>, StaleAttempt> => {
  const appended = Transition.append(job, attempt, piece)
  if (appended === null) return Either.left(new StaleAttempt({ id: job.id, attempt }))
  return Either.right({ answer: undefined, next: appended.text === "" ? null : appended })
}

export const settle = (
  job: Job,
  attempt: number,
  outcome: Transition.Outcome,
  last: Piece = nothing,
  now: number,
): Either.Either<Decision<Job>, StaleAttempt> => {
  const appended = Transition.append(job, attempt, last)
  const settled = appended && Transition.settle(appended.job, attempt, outcome, now)
  if (appended === null || settled === null) return Either.left(new StaleAttempt({ id: job.id, attempt }))
  return Either.right({ answer: settled, next: { job: settled, text: appended.text } })
}

export const redeliver = (job: Job): Decision<Job> => {
  const queued = Transition.redeliver(job)
  return queued === null ? { answer: job, next: null } : { answer: queued, next: { job: queued, text: "" } }
}

export const cancel = (job: Job, now: number): Decision<Job> => {
  const cancelled = Transition.cancel(job, now)
  return cancelled === null || cancelled === job
    ? { answer: job, next: null }
    : { answer: cancelled, next: { job: cancelled, text: "" } }
}
