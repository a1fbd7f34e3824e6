/**
 * Looks after what this process carries, since others may change it: a cancel may come in at any process, and an
 * attempt of a process that was held up for too long is another one's by now.
 */
import { Effect } from "effect"
import type { JobId } from "../../Job.js"
import { Store } from "../../Store.js"
import { Lanes } from "../Lanes.js"

/** Interrupts the fibers that have nothing to do any more. A store that is out of reach says nothing of them. */
export const make = Effect.gen(function* () {
  const store = yield* Store
  const lanes = yield* Lanes
  /** The attempt of each carried job, from when it was first seen to run. */
  const begun = new Map<JobId, number>()

  const look = (id: JobId) =>
    store.get(id).pipe(
      Effect.flatMap((job) => {
        const attempt = begun.get(id)
        const isOwn = job.status === "running" && (attempt === undefined || attempt === job.attempt)
        if (isOwn) begun.set(id, job.attempt)
        const isOver = !isOwn && (attempt !== undefined || job.status === "running")
        return isOver || job.cancelRequestedAt !== null ? lanes.interrupt(id) : Effect.void
      }),
      Effect.catchTags({ JobNotFound: () => lanes.interrupt(id), StoreError: () => Effect.void }),
    )

  const lookAll = Effect.suspend(() => {
    const carried = [...lanes.all.values()].flatMap((lane) => [...lane.carried.keys()])
    for (const id of begun.keys()) if (!carried.includes(id)) begun.delete(id)
    return Effect.forEach(carried, look, { concurrency: "unbounded", discard: true })
  })
  return { lookAll }
})
