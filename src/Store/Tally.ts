/** How many jobs there are, and how large they are together: kept in the process so that nobody has to count. */
import { deliveries, type Job, type Status } from "../Job.js"
import type { Counts } from "../Store.js"

/** Of a job: whose it is, and where it waits. */
type Owner = Pick<Job, "resource" | "caller">

/** How many jobs may be queued; `null`: any number. */
export interface Limits {
  readonly maxQueued: number
  readonly maxQueuedPerCaller: number | null
  readonly maxBytes: number | null
  readonly maxBytesPerCaller: number | null
}

export interface Tally {
  /** Of each resource, in each state. */
  readonly counts: () => ReadonlyMap<string, Counts>
  /** Of one resource; `null` where it has none. */
  readonly of: (resource: string) => Counts | null
  readonly add: (owner: Owner, status: Status, change?: 1 | -1) => void
  /** A job that was `before` is `after`; `null` is absent. */
  readonly move: (before: Job | null, after: Job | null) => void
  /** Keeps a place for a job that is about to be queued; which limit there is no place under. */
  readonly reserve: (owner: Owner, limits: Limits) => "resource" | "caller" | null
  /** Gives a place back: its job is counted by now, or will never be. */
  readonly release: (owner: Owner) => void
  /** A caller's jobs take so many bytes more, or less. */
  readonly addBytes: (caller: string, bytes: number) => void
  /** Which limit would be passed by so many bytes more. */
  readonly passed: (caller: string, bytes: number, limits: Limits) => "store" | "caller" | null
}

export const make = (): Tally => {
  const rows = new Map<string, { -readonly [status in Status]: number }>()
  /** Queued jobs, and places that are kept for some. */
  const places = new Map<string, number>()
  const placesOfCaller = new Map<string, number>()
  const bytesOfCaller = new Map<string, number>()
  let allBytes = 0

  const count = (map: Map<string, number>, key: string, change: number): void => {
    const now = (map.get(key) ?? 0) + change
    if (now > 0) map.set(key, now)
    else map.delete(key)
  }
  const place = ({ caller, resource }: Owner, change: 1 | -1): void => {
    count(places, resource, change)
    // A caller does not submit deliveries, and must not be kept from submitting by a receiver that is away.
    if (resource !== deliveries) count(placesOfCaller, caller, change)
  }

  const add: Tally["add"] = (owner, status, change = 1) => {
    const { resource } = owner
    const row = rows.get(resource) ?? { queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 }
    row[status] += change
    if (change < 0 && Object.values(row).every((count) => count === 0)) rows.delete(resource)
    else rows.set(resource, row)
    if (status === "queued") place(owner, change)
  }

  return {
    counts: () => new Map(Array.from(rows, ([resource, row]) => [resource, { ...row }])),
    of: (resource) => {
      const row = rows.get(resource)
      return row === undefined ? null : { ...row }
    },
    add,
    move: (before, after) => {
      if (before !== null && after !== null && before.status === after.status) return
      // Up before down, so that a resource with one job is never absent between the two.
      if (after !== null) add(after, after.status)
      if (before !== null) add(before, before.status, -1)
    },
    reserve: (owner, { maxQueued, maxQueuedPerCaller }) => {
      if ((places.get(owner.resource) ?? 0) >= maxQueued) return "resource"
      if (maxQueuedPerCaller !== null && (placesOfCaller.get(owner.caller) ?? 0) >= maxQueuedPerCaller) return "caller"
      place(owner, 1)
      return null
    },
    release: (owner) => place(owner, -1),
    addBytes: (caller, bytes) => {
      allBytes += bytes
      count(bytesOfCaller, caller, bytes)
    },
    passed: (caller, bytes, { maxBytes, maxBytesPerCaller }) => {
      if (maxBytesPerCaller !== null && (bytesOfCaller.get(caller) ?? 0) + bytes > maxBytesPerCaller) return "caller"
      return maxBytes !== null && allBytes + bytes > maxBytes ? "store" : null
    },
  }
}
