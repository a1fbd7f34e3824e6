/** A job's log, read in pages of about the same size, however many events that is: a reader holds one of them. */
import { Effect } from "effect"
import type { Event, Job } from "../Job.js"

/** In characters. An event may be larger. */
const pageSize = 32_768
const firstLimit = 16
const largestLimit = 1000

export interface LogPage {
  readonly events: ReadonlyArray<Event>
  readonly job: Job
  readonly ended: boolean
}

export type ReadPage<E> = (after: number) => Effect.Effect<LogPage, E>

/** Reads the page after an event; how many events it has follows from the page before. */
export const paged = <E>(read: (after: number, limit: number) => Effect.Effect<LogPage, E>): ReadPage<E> => {
  let limit = firstLimit
  return (after) =>
    Effect.map(
      Effect.suspend(() => read(after, limit)),
      (page) => {
        const size = page.events.reduce((sum, event) => sum + (event.type === "output" ? event.text.length : 500), 0)
        limit = Math.max(1, Math.min(largestLimit, Math.floor((pageSize * page.events.length) / Math.max(1, size))))
        return page
      },
    )
}
