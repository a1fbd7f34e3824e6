/**
 * The store as its contract says it, too simple to be wrong: a list of jobs, walked through for every question. It
 * shares nothing with `src` but the shapes, so that a bug there is not a bug here.
 */
import type { NewJob, Outcome } from "../../src/Job/Transition.js"
import type { JobId, Piece, Status } from "../../src/Job.js"

/** An entry of a log: a state, or a piece of output. */
export type Entry =
  | { readonly at: number; readonly attempt: number; readonly status: Status; readonly error: string | null }
  | { readonly at: number; readonly attempt: number; readonly text: string }

/** What a job is, as far as the simulation looks at it. */
export interface Seen {
  readonly status: Status
  readonly attempt: number
  readonly startedAt: number | null
  readonly finishedAt: number | null
  readonly cancelRequestedAt: number | null
  readonly retryAt: number | null
  readonly deadlineAt: number | null
  /** The tag of its error. */
  readonly error: string | null
  readonly outcomes: ReadonlyArray<string | null>
}

export interface Held {
  readonly submission: NewJob
  /** As the store gave it: it decides order alone. */
  readonly sequence: number
  readonly deliveryOf: JobId | null
  readonly seen: Seen
  readonly claim: string | null
  /** Whether its newest attempt runs, or ran, alone. */
  readonly alone: boolean
  /** The log, in which an event's number is its place from 1. */
  readonly log: ReadonlyArray<Entry>
  /** The output of the newest attempt. */
  readonly output: string
}

export const day = 24 * 60 * 60 * 1000

/** The use of an idempotency key, and when its job had ended, if it was removed. */
export interface Use {
  readonly id: JobId
  readonly fingerprint: string
  readonly endedAt: number | null
}

/** Whether a use counts: until a day after the end of its job. */
export const counts = ({ endedAt }: Use, job: Held | undefined, now: number): boolean => {
  const end = job === undefined ? endedAt : job.seen.finishedAt
  return end === null || now - end < day
}
export const deliveries = "webhooks"

export const isOver = ({ seen }: Held): boolean =>
  seen.status === "succeeded" || seen.status === "failed" || seen.status === "cancelled"
export const isReady = ({ seen }: Held): boolean => seen.status === "queued" && seen.retryAt === null

const to = (job: Held, now: number, change: Partial<Seen> & { readonly status: Status }): Held => {
  const seen = { ...job.seen, ...change }
  const { attempt, error, status } = seen
  return { ...job, seen, log: [...job.log, { at: now, attempt, status, error }] }
}

export const created = (submission: NewJob, sequence: number, now: number, deliveryOf: JobId | null = null): Held => ({
  submission,
  sequence,
  deliveryOf,
  claim: null,
  alone: false,
  output: "",
  log: [{ at: now, attempt: 0, status: "queued", error: null }],
  seen: {
    status: "queued",
    attempt: 0,
    startedAt: null,
    finishedAt: null,
    cancelRequestedAt: null,
    retryAt: null,
    deadlineAt: submission.deadlineMillis === null ? null : now + submission.deadlineMillis,
    error: null,
    outcomes: [],
  },
})

const isLate = ({ seen: { deadlineAt } }: Held, at: number) => deadlineAt !== null && deadlineAt <= at

/** Whether the service died twice under it: its next attempt is to run alone. */
export const isSuspect = ({ seen }: Held): boolean => seen.outcomes.filter((each) => each === "orphaned").length >= 2

/** The attempt that it begins, or has begun under this name; `null` where it may not. */
export const claim = (job: Held, name: string, alone: boolean, now: number): Held | null => {
  if (job.seen.status === "running") return job.claim === name ? job : null
  if (!isReady(job) || isLate(job, now) || (isSuspect(job) && !alone)) return null
  const { attempt, outcomes, startedAt } = job.seen
  const begun = to(job, now, {
    status: "running",
    attempt: attempt + 1,
    startedAt: startedAt ?? now,
    error: null,
    outcomes: [...outcomes, null],
  })
  return { ...begun, claim: name, alone: isSuspect(job), output: "" }
}

const isLive = ({ seen }: Held, attempt: number) => seen.status === "running" && seen.attempt === attempt

/** `null`: the attempt is not the live one. */
export const append = (job: Held, attempt: number, { at, text }: Piece, now: number): Held | null => {
  if (!isLive(job, attempt)) return null
  const rest = text.slice(job.output.length - at)
  if (rest === "") return job
  return { ...job, output: job.output + rest, log: [...job.log, { at: now, attempt, text: rest }] }
}

/** `null`: the attempt is not the live one. */
export const settle = (job: Held, attempt: number, outcome: Outcome, last: Piece, now: number): Held | null => {
  const written = append(job, attempt, last, now)
  if (written === null) return null
  const ended = (as: string, change: Partial<Seen> & { readonly status: Status }) => {
    const finishedAt = change.status === "queued" ? null : now
    return to(written, now, { ...change, finishedAt, outcomes: [...job.seen.outcomes.slice(0, -1), as] })
  }
  const asked = job.seen.cancelRequestedAt !== null
  if (outcome._tag === "Succeeded") return ended("succeeded", { status: "succeeded" })
  if (outcome._tag === "Interrupted") {
    return asked
      ? ended("cancelled", { status: "cancelled" })
      : ended("interrupted", { status: "queued", retryAt: outcome.retryAt ?? null })
  }
  const as = outcome._tag.toLowerCase()
  const error = outcome._tag === "Orphaned" ? "Orphaned" : outcome.failure.tag
  if (asked) return ended(as, { status: "cancelled", error })
  const failures = [...job.seen.outcomes, as].filter((each) => each === "failed").length
  // The one that ran alone when the service died is to blame, whatever it may do next.
  const again = outcome._tag === "Orphaned" ? !job.alone : outcome.failure.retryable
  return again && failures < job.submission.maxAttempts && !isLate(job, outcome.retryAt)
    ? ended(as, { status: "queued", error, retryAt: outcome.retryAt })
    : ended(as, { status: "failed", error })
}

export const cancel = (job: Held, now: number): Held => {
  if (isOver(job) || job.seen.cancelRequestedAt !== null) return job
  return job.seen.status === "queued"
    ? to(job, now, { status: "cancelled", cancelRequestedAt: now, retryAt: null, finishedAt: now })
    : { ...job, seen: { ...job.seen, cancelRequestedAt: now } }
}

/** What time makes of it: `null` where it is removed, the same where nothing is due. */
export const due = (job: Held, retentionMillis: number, now: number): Held | null => {
  const { finishedAt, retryAt, status } = job.seen
  if (status === "queued" && isLate(job, now)) {
    return to(job, now, { status: "failed", error: "Expired", retryAt: null, finishedAt: now })
  }
  if (retryAt !== null && retryAt <= now) return { ...job, seen: { ...job.seen, retryAt: null } }
  return finishedAt !== null && finishedAt < now - retentionMillis ? null : job
}

/** The same job where its backoff was set by a clock of which nothing is known any more. */
export const shorten = (job: Held, now: number): Held => {
  const setAt = job.log.at(-1)?.at ?? 0
  const { retryAt } = job.seen
  const isAhead = retryAt !== null && retryAt > setAt && setAt > now + 1000
  return isAhead ? { ...job, seen: { ...job.seen, retryAt: retryAt - (setAt - now) } } : job
}

/** Callers in turn, by the age of their first job. */
export const inTurn = (jobs: ReadonlyArray<Held>): ReadonlyArray<JobId> => {
  const lines = new Map<string, Array<Held>>()
  for (const job of jobs.filter(isReady).sort((a, b) => a.sequence - b.sequence)) {
    const line = lines.get(job.submission.caller)
    if (line === undefined) lines.set(job.submission.caller, [job])
    else line.push(job)
  }
  const turns = [...lines.values()]
  const longest = Math.max(0, ...turns.map((line) => line.length))
  return Array.from({ length: longest }, (_, turn) => turns.flatMap((line) => line[turn]?.submission.id ?? [])).flat()
}
