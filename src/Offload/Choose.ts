/** Which of the queued jobs begin next, where a caller or a host may have only so many at once. Pure but for its looks. */
import { Effect } from "effect"
import type { JobId } from "../Job.js"

/** What the limits of a job count by. */
export interface Owner {
  readonly caller: string
  /** Of a delivery: the host, and the port, that it goes to. */
  readonly host: string | null
}

/** How many jobs run at once; infinity where there is no limit. */
export interface OwnerLimits {
  readonly perCaller: number
  readonly perHost: number
}

/**
 * How far a caller's queue is looked through for a job to another host. What comes after it waits, as the price of a
 * cost that does not grow with the queue; the jobs of other callers do not.
 */
const lookAhead = 100

interface Options<E> {
  /** How many jobs may begin. */
  readonly room: number
  readonly limits: OwnerLimits
  /** The owners of the jobs that run. */
  readonly running: ReadonlyArray<Owner>
  /** Whether a queued job has been begun, or cannot be; and how many such jobs there are at most. */
  readonly isTaken: (id: JobId) => boolean
  readonly taken: number
  /** The first jobs of the queue without those of some callers. */
  readonly queued: (limit: number, skip: ReadonlySet<string>) => Effect.Effect<ReadonlyArray<JobId>, E>
  readonly ownerOf: (id: JobId) => Effect.Effect<Owner, E>
}

/** The jobs that may begin now, in their order, with their owners. */
export const choose = <E>({
  isTaken,
  limits,
  ownerOf,
  queued,
  room,
  running,
  taken,
}: Options<E>): Effect.Effect<ReadonlyMap<JobId, Owner>, E> =>
  Effect.gen(function* () {
    const counts = count(limits, running)
    const chosen = new Map<JobId, Owner>()
    const passedBy = new Set<string>()
    const limit = room + taken + (limits.perHost === Number.POSITIVE_INFINITY ? 0 : lookAhead)
    for (;;) {
      const ids = yield* queued(limit, new Set([...counts.fullCallers(), ...passedBy]))
      const before = passedBy.size
      for (const id of ids) {
        if (chosen.size === room) return chosen
        if (isTaken(id) || chosen.has(id)) continue
        const owner = yield* ownerOf(id)
        if (counts.admits(owner)) {
          counts.add(owner)
          chosen.set(id, owner)
        } else passedBy.add(owner.caller)
      }
      // In place of those whose caller or host has enough by now, others may begin.
      if (passedBy.size === before || ids.length < limit) return chosen
    }
  })

/** Whether one more job of an owner may begin beside those that run. */
export const admits = (limits: OwnerLimits, running: ReadonlyArray<Owner>, owner: Owner): boolean =>
  count(limits, running).admits(owner)

const count = ({ perCaller, perHost }: OwnerLimits, running: ReadonlyArray<Owner>) => {
  const callers = new Map<string, number>()
  const hosts = new Map<string, number>()
  const add = ({ caller, host }: Owner) => {
    callers.set(caller, (callers.get(caller) ?? 0) + 1)
    if (host !== null) hosts.set(host, (hosts.get(host) ?? 0) + 1)
  }
  running.forEach(add)
  return {
    add,
    admits: ({ caller, host }: Owner): boolean =>
      (callers.get(caller) ?? 0) < perCaller && (host === null || (hosts.get(host) ?? 0) < perHost),
    fullCallers: (): ReadonlyArray<string> =>
      [...callers].flatMap(([caller, jobs]) => (jobs >= perCaller ? [caller] : [])),
  }
}
