/** A caller's jobs, newest first: what is indexed of each resource and state, merged by sequence. */
import { Effect } from "effect"
import { deliveries, Status } from "../Job.js"
import type { Counts, Page } from "../Store.js"
import type { Jobs } from "./Jobs.js"
import * as Key from "./Key.js"
import { type Entry, type Kv, type KvError, reading, type Table } from "./Kv.js"

export interface Query {
  readonly caller: string
  readonly status?: Status | undefined
  readonly resource?: string | undefined
}

/** A page of the jobs that can be read. */
export const list = (
  jobs: Jobs,
  { cursor, limit, ...query }: Query & { readonly limit: number; readonly cursor?: string | undefined },
): Effect.Effect<Page, KvError> =>
  Effect.gen(function* () {
    const { more, page } = yield* reading(() => {
      const page: Array<Place> = []
      for (const place of places(jobs.kv, query, jobs.tally.counts(), decodeCursor(cursor))) {
        if (page.length >= limit) return { page, more: true }
        page.push(place)
      }
      return { page, more: false }
    })
    const last = page.at(-1)
    return {
      jobs: yield* jobs.readAll(page.map(({ id }) => id)),
      cursor: more && last !== undefined ? encodeCursor(last.sequence) : null,
    }
  })

/** A job's place in the listing. */
interface Place {
  readonly sequence: number
  readonly id: string
}

/** The places below the sequence `below`, one by one. */
function* places(
  kv: Kv,
  { caller, resource, status }: Query,
  counts: ReadonlyMap<string, Counts>,
  below: number,
): Generator<Place> {
  const heads: Array<{ entry: Entry; readonly rest: Iterator<Entry> }> = []
  const open = (table: Table, ...parts: ReadonlyArray<string>): void => {
    const range = { start: Key.under(...parts).start, end: Key.key(...parts, below), reverse: true }
    const rest = kv.entries(table, range)[Symbol.iterator]()
    const { done, value } = rest.next()
    if (done !== true) heads.push({ entry: value, rest })
  }
  try {
    for (const name of counts.keys()) {
      if (resource === undefined ? name === deliveries : name !== resource) continue
      // Where nothing is counted there may be something: a commit can be read before it is known, and counted.
      for (const each of status === undefined ? Status.literals : [status]) {
        open("index", caller, name, each)
        if (each === "queued") open("ready", name, caller)
      }
    }
    for (;;) {
      const [first, ...others] = heads
      if (first === undefined) return
      const newest = others.reduce((a, b) => (Key.lastNumber(b.entry.key) > Key.lastNumber(a.entry.key) ? b : a), first)
      yield { sequence: Key.lastNumber(newest.entry.key), id: newest.entry.value }
      const { done, value } = newest.rest.next()
      if (done === true) heads.splice(heads.indexOf(newest), 1)
      else newest.entry = value
    }
  } finally {
    for (const { rest } of heads) rest.return?.()
  }
}

export const encodeCursor = (sequence: number): string => Buffer.from(String(sequence)).toString("base64url")

/** The sequence to continue below. A cursor that was not made here is as no cursor. */
export const decodeCursor = (cursor: string | undefined): number => {
  const text = Buffer.from(cursor ?? "", "base64url").toString()
  return /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.MAX_SAFE_INTEGER
}
