/** What a store learns about its jobs when it opens, from the keys of the index alone. */
import { Effect, Schema } from "effect"
import { Status } from "../Job.js"
import * as Key from "./Key.js"
import { type Kv, KvError, type Op, put, reading, remove } from "./Kv.js"
import { indexKey } from "./Record.js"
import * as Tally from "./Tally.js"

/** How `Record.ts` lays records out. It changes with a layout that older code cannot read. */
const format = "2"

const isStatus = Schema.is(Status)

export const open = (kv: Kv): Effect.Effect<{ readonly tally: Tally.Tally; readonly sequence: number }, KvError> =>
  Effect.gen(function* () {
    const found = yield* reading(() => kv.get("meta", "format"))
    if (found === undefined) yield* commit(kv, [put("meta", "format", format)])
    else if (found === "1") yield* commit(kv, yield* reading(() => fromFirstFormat(kv)))
    else if (found !== format) {
      return yield* new KvError({
        reason: "malformed",
        detail: `its records have format '${found}', this program reads format '${format}'`,
      })
    }
    return yield* reading(() => {
      const tally = Tally.make()
      let sequence = 0
      const count = (key: string, resource: string | undefined, caller: string | undefined, status: Status): void => {
        if (resource === undefined || caller === undefined) return
        tally.add({ resource, caller }, status)
        sequence = Math.max(sequence, Key.lastNumber(key))
      }
      for (const key of kv.keys("index", Key.all)) {
        const [caller, resource, status] = Key.parts(key)
        if (isStatus(status)) count(key, resource, caller, status)
      }
      for (const key of kv.keys("ready", Key.all)) {
        const [resource, caller] = Key.parts(key)
        count(key, resource, caller, "queued")
      }
      let jobs = 0
      for (const counts of tally.counts().values()) for (const each of Object.values(counts)) jobs += each
      const range = Key.under("bytes")
      // An earlier version removes a job and not its size.
      const isStale = kv.count("meta", range) > jobs
      const stale: Array<Op> = []
      for (const { key, value } of kv.entries("meta", range)) {
        const [, caller = "", id = ""] = Key.parts(key)
        if (isStale && kv.get("jobs", id) === undefined) stale.push(remove("meta", key))
        else tally.addBytes(caller, Number(value))
      }
      return { tally, sequence, stale }
    }).pipe(Effect.tap(({ stale }) => (stale.length === 0 ? Effect.void : commit(kv, stale))))
  })

/** There, ready jobs stood in the index too. That its records have all members and events does not matter. */
const fromFirstFormat = (kv: Kv): ReadonlyArray<Op> => [
  put("meta", "format", format),
  ...Array.from(kv.keys("ready", Key.all), (key) => {
    const [resource = "", caller = ""] = Key.parts(key)
    return remove("index", indexKey({ caller, resource, status: "queued", sequence: Key.lastNumber(key) }))
  }),
]

const commit = (kv: Kv, ops: ReadonlyArray<Op>): Effect.Effect<void, KvError> =>
  Effect.async((resume) => kv.commit(ops, (error) => resume(error === null ? Effect.void : Effect.fail(error))))
