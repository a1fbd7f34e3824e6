/**
 * When a suspect may begin: alone in its process. A suspect is a job that was running in several deaths of the service
 * (see `Job/Transition.ts`). While it runs nothing else begins, so that one more death says whose fault it is.
 *
 * A suspect that has its turn while others run waits for them. The process takes turns meanwhile: in a closed turn it
 * begins nothing, in an open one it begins other jobs as always. The first turn takes 10 s, and each closed turn is
 * followed by an open one of the same length, and that by a closed one of twice the length. So neither side starves:
 * - the suspect begins in the first closed turn that is as long as what runs: after at most five times the longest
 *   attempt that is begun while it waits, or within 10 s where all of them are shorter;
 * - the other jobs have a quarter of that time at least, and half of it in the end. While a suspect runs they wait for as long as its timeout allows at most.
 *
 * Suspects run one after another, and there are never more of them than jobs ran in two deaths.
 */
import { Context } from "effect"

/** What a process runs, as far as it decides what may begin beside it. */
export interface Company {
  /** How many jobs it carries, from their fork until their outcome is stored. */
  readonly carried: number
  /** Whether one of these runs alone. */
  readonly isAlone: boolean
  /** Since when a suspect waits for the others, in milliseconds of a monotonic clock; `null`: none waits. */
  readonly waitingSince: number | null
}

/** Whether a job may begin in this company at `now`, by the same clock. */
export const mayBegin = (isSuspect: boolean, { carried, isAlone, waitingSince }: Company, now: number): boolean =>
  isSuspect ? carried === 0 : !isAlone && (waitingSince === null || !isClosed(now - waitingSince))

/** How long the first turn takes, in milliseconds. */
export const turnMillis = 10_000

/** Whether the turn is a closed one, so many milliseconds after a suspect began to wait. */
export const isClosed = (waitedMillis: number): boolean => {
  const pair = Math.floor(Math.log2(waitedMillis / (2 * turnMillis) + 1))
  const since = 2 * turnMillis * (2 ** pair - 1)
  return waitedMillis - since < turnMillis * 2 ** pair
}

/** Whether an attempt that is claimed here runs alone in its process. */
export class RunsAlone extends Context.Reference<RunsAlone>()<"effect-offload/RunsAlone", boolean>(
  "effect-offload/RunsAlone",
  { defaultValue: () => false },
) {}
