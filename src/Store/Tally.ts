/** How many jobs each resource has in each state, kept in the process so that nobody has to count. */
import type { Job, Status } from "../Job.js"
import type { Counts } from "../Store.js"

export interface Tally {
  readonly counts: () => ReadonlyMap<string, Counts>
  readonly add: (resource: string, status: Status, change?: 1 | -1) => void
  /** A job that was `before` is `after`; `null` is absent. */
  readonly move: (before: Job | null, after: Job | null) => void
  /** Keeps a place for a job that is about to be queued. `false`: there are `limit` of them. */
  readonly reserve: (resource: string, limit: number) => boolean
  /** Gives a place back: its job is counted by now, or will never be. */
  readonly release: (resource: string) => void
}

export const make = (): Tally => {
  const rows = new Map<string, { -readonly [status in Status]: number }>()
  const reserved = new Map<string, number>()

  const add: Tally["add"] = (resource, status, change = 1) => {
    const row = rows.get(resource) ?? { queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 }
    row[status] += change
    if (Object.values(row).every((count) => count === 0)) rows.delete(resource)
    else rows.set(resource, row)
  }

  return {
    counts: () => new Map(Array.from(rows, ([resource, row]) => [resource, { ...row }])),
    add,
    move: (before, after) => {
      if (before !== null && after !== null && before.status === after.status) return
      // Up before down, so that a resource with one job is never absent between the two.
      if (after !== null) add(after.resource, after.status)
      if (before !== null) add(before.resource, before.status, -1)
    },
    reserve: (resource, limit) => {
      const places = reserved.get(resource) ?? 0
      if ((rows.get(resource)?.queued ?? 0) + places >= limit) return false
      reserved.set(resource, places + 1)
      return true
    },
    release: (resource) => {
      const places = (reserved.get(resource) ?? 0) - 1
      if (places > 0) reserved.set(resource, places)
      else reserved.delete(resource)
    },
  }
}
