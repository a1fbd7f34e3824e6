/** Finds the workers of this process that take nothing, though they have room: nothing else would tell of them. */
import { Effect } from "effect"
import type { Work } from "./Engine.js"

/** A worker with room looks each second. One without an answer for so long, in milliseconds, takes no work. */
const deafMillis = 10_000

export const make = (all: ReadonlyArray<{ readonly resource: string; readonly work: Work | null }>) => {
  let before: string | null = null

  /** Why this process takes no work; `null` where it does. */
  const trouble = Effect.sync(() => {
    const deaf = all.filter(({ work }) => work !== null && work.deafMillis() > deafMillis)
    const names = deaf.map(({ resource }) => `'${resource}'`).join(", ")
    return names === "" ? null : `Redis has answered no look for work on ${names} for ${deafMillis / 1000} s`
  })

  /** Says in the log when it begins and when it is over. */
  const warn = Effect.flatMap(trouble, (reason) => {
    if (reason === before) return Effect.void
    before = reason
    return (
      reason === null ? Effect.logInfo("jobs are begun here again") : Effect.logError("no job is begun here")
    ).pipe(Effect.annotateLogs({ module: "Offload", ...(reason === null ? {} : { reason }) }))
  })

  return { trouble, warn }
}
