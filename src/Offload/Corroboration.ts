/**
 * Whether a downstream's refusal until a time holds its whole resource, or only the job that met it. A field of an
 * event is enough. Words could have come from the job's own prompt in a way that nobody thought of, so that they count
 * for others only when a second, independent job brings the same.
 */
import type { Evidence } from "../Job/JobError.js"
import type { Job } from "../Job.js"

/** A refusal that an attempt met. */
export interface Refusal {
  readonly evidence: Evidence
  /** Until when the downstream refuses, in milliseconds since the epoch. */
  readonly until: number
  readonly job: Pick<Job, "id" | "caller">
}

/** The newest refusal that words told, of each caller: bounded by their number. */
export type Refusals = ReadonlyMap<string, Refusal>

export const none: Refusals = new Map()

/** The caller of everybody where there are no keys. */
export const anonymous = "anonymous"

/** Whether neither of two jobs could have made the other one's refusal: they have two callers, where there are keys. */
const areIndependent = (a: Refusal["job"], b: Refusal["job"]): boolean =>
  a.caller !== b.caller || (a.caller === anonymous && a.id !== b.id)

/**
 * Until when the resource is held after a refusal that was met at `now`, `null` where it is not, and the refusals to be
 * remembered. Where two jobs bear each other out, the earlier of their times counts: both of them say as much.
 */
export const decide = (
  before: Refusals,
  refusal: Refusal,
  now: number,
): { readonly holdUntil: number | null; readonly refusals: Refusals } => {
  if (refusal.evidence === "structured") return { holdUntil: refusal.until, refusals: before }
  const open = [...before].filter(([, { until }]) => until > now)
  const others = open.map(([, other]) => other).filter(({ job }) => areIndependent(job, refusal.job))
  const witness = others.length === 0 ? null : Math.max(...others.map(({ until }) => until))
  return {
    holdUntil: witness === null ? null : Math.min(witness, refusal.until),
    refusals: new Map([...open, [refusal.job.caller, refusal]]),
  }
}
