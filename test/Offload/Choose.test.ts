import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import { type JobId, makeId } from "../../src/Job.js"
import { choose, type Owner, type OwnerLimits } from "../../src/Offload/Choose.js"

/** Callers in turns, as a store gives them; it counts what is looked at. */
const queueOf = (callers: Readonly<Record<string, ReadonlyArray<string>>>) => {
  const owners = new Map<JobId, Owner>()
  const lines = Object.entries(callers).map(([caller, hosts]) => ({
    caller,
    ids: hosts.map((host) => {
      const id = makeId(0)
      owners.set(id, { caller, host })
      return id
    }),
  }))
  const counts = { queued: 0, owners: 0 }
  return {
    counts,
    choose: (room: number, limits: OwnerLimits, running: ReadonlyArray<Owner> = []) =>
      Effect.runSync(
        choose<never>({
          room,
          limits,
          running,
          isTaken: () => false,
          taken: 0,
          ownerOf: (id) =>
            Effect.sync(() => {
              counts.owners++
              return owners.get(id) ?? { caller: "", host: null }
            }),
          queued: (limit, skip) =>
            Effect.sync(() => {
              counts.queued++
              const open = lines.filter(({ caller }) => !skip.has(caller))
              const rounds = Math.max(0, ...open.map(({ ids }) => ids.length))
              const ids: Array<JobId> = []
              for (let round = 0; round < rounds && ids.length < limit; round++) {
                ids.push(...open.flatMap(({ ids }) => ids.slice(round, round + 1)))
              }
              return ids.slice(0, limit)
            }),
        }),
      ),
  }
}

const names = (chosen: ReadonlyMap<JobId, Owner>) => [...chosen.values()].map(({ caller, host }) => `${caller} ${host}`)

describe("the jobs that begin next", () => {
  it("are the first of the queue where there is no limit", () => {
    const queue = queueOf({ ada: ["x", "x", "x"], bob: ["y"] })
    const unlimited = { perCaller: Number.POSITIVE_INFINITY, perHost: Number.POSITIVE_INFINITY }
    expect(names(queue.choose(3, unlimited))).toEqual(["ada x", "bob y", "ada x"])
    expect(queue.counts.queued).toBe(1)
  })

  it("are never more of a caller, or to a host, than may run, with those that run", () => {
    const queue = queueOf({ ada: ["x", "y", "z"], bob: ["x", "x", "y"] })
    const running = [{ caller: "ada", host: "x" }]
    expect(names(queue.choose(9, { perCaller: 2, perHost: 2 }, running))).toEqual(["ada x", "bob y"])
  })

  it("are found behind any number of callers whose host is full, and each is looked at once", () => {
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`c${n}`, ["slow"]]))
    const queue = queueOf({ ...many, last: ["fast"] })
    const running = [{ caller: "other", host: "slow" }]
    expect(names(queue.choose(1, { perCaller: 1, perHost: 1 }, running))).toEqual(["last fast"])
    expect(queue.counts.owners).toBe(501)
  })

  it("cost the same however long the queue of a caller is whose host is full", () => {
    const queue = queueOf({ ada: Array(100_000).fill("slow"), bob: ["fast"] })
    const running = [{ caller: "ada", host: "slow" }]
    expect(names(queue.choose(2, { perCaller: 9, perHost: 1 }, running))).toEqual(["bob fast"])
    expect(queue.counts.owners).toBeLessThan(250)
  })
})
