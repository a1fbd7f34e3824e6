/**
 * The order of a resource's ready jobs: callers in turn, beginning with the caller whose last turn was the longest ago,
 * each caller's own jobs by sequence. Each read seeks once a caller; none of them walks along the queue.
 */
import type { Job } from "../Job.js"
import type { Turns } from "../Store.js"
import * as Key from "./Key.js"
import type { Entry, Kv } from "./Kv.js"
import { readyKey } from "./Record.js"

/** A caller with ready jobs. */
export interface Line {
  readonly caller: string
  /** The sequence of its first job. */
  readonly head: number
}

const lines = (kv: Kv, resource: string): Array<Line & { readonly prefix: string }> => {
  const { end, start } = Key.under(resource)
  const lines: Array<Line & { readonly prefix: string }> = []
  let from = start
  for (;;) {
    const [first] = kv.keys("ready", { start: from, end, limit: 1 })
    if (first === undefined) return lines
    const prefix = Key.prefix(first, 2)
    lines.push({ caller: Key.parts(prefix)[1] ?? "", prefix, head: Key.lastNumber(first) })
    from = Key.underPrefix(prefix).end
  }
}

/** Which of two callers comes first. */
export const inOrder =
  ({ last = new Map() }: Turns) =>
  (a: Line, b: Line): number =>
    (last.get(a.caller) ?? Number.NEGATIVE_INFINITY) === (last.get(b.caller) ?? Number.NEGATIVE_INFINITY)
      ? a.head - b.head
      : (last.get(a.caller) ?? Number.NEGATIVE_INFINITY) - (last.get(b.caller) ?? Number.NEGATIVE_INFINITY)

/** The ids of the first `limit` jobs. */
export const first = (kv: Kv, resource: string, limit: number, order: Turns = {}): ReadonlyArray<string> => {
  const ids: Array<string> = []
  if (limit <= 0) return ids
  // Each of these callers has a job in the first round, so that later ones have none among the first `limit`.
  let turns = lines(kv, resource)
    .filter(({ caller }) => order.skip?.has(caller) !== true)
    .sort(inOrder(order))
    .slice(0, limit)
    .map(({ prefix }): Iterator<Entry> => kv.entries("ready", { ...Key.underPrefix(prefix), limit })[Symbol.iterator]())
  const open = new Set(turns)
  try {
    while (turns.length > 0 && ids.length < limit) {
      turns = turns.filter((turn) => {
        if (ids.length === limit) return true
        const { done, value } = turn.next()
        if (done === true) open.delete(turn)
        else ids.push(value.value)
        return done !== true
      })
    }
    return ids
  } finally {
    for (const turn of open) turn.return?.()
  }
}

/** How many jobs `first` gives before this ready job, counted up to `limit`. */
export const ahead = (kv: Kv, job: Job, limit: number, order: Turns = {}): number => {
  const own = readyKey(job)
  const ownPrefix = Key.prefix(own, 2)
  const all = lines(kv, job.resource)
  const ownLine = all.find(({ prefix }) => prefix === ownPrefix) ?? { caller: job.caller, head: job.sequence }
  const compare = inOrder(order)
  const before = kv.count("ready", { start: Key.underPrefix(ownPrefix).start, end: own, limit })
  let count = before
  for (const line of all) {
    if (count >= limit) return limit
    if (line.prefix === ownPrefix) continue
    // A caller whose turn comes first has had one turn more when ours comes.
    const turns = compare(line, ownLine) < 0 ? before + 1 : before
    if (turns > 0) count += kv.count("ready", { ...Key.underPrefix(line.prefix), limit: turns })
  }
  return Math.min(count, limit)
}
