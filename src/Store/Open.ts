/** What a store learns about its jobs when it opens, from the keys of the index alone. */
import { Effect, Schema } from "effect"
import { Status } from "../Job.js"
import * as Key from "./Key.js"
import { type Kv, KvError, type Op, put, reading } from "./Kv.js"
import * as Tally from "./Tally.js"

/** How `Record.ts` lays records out. It changes with a layout that older code cannot read. */
const format = "1"

const isStatus = Schema.is(Status)

export const open = (kv: Kv): Effect.Effect<{ readonly tally: Tally.Tally; readonly sequence: number }, KvError> =>
  Effect.gen(function* () {
    const found = yield* reading(() => kv.get("meta", "format"))
    if (found === undefined) yield* commit(kv, [put("meta", "format", format)])
    else if (found !== format) {
      return yield* new KvError({
        reason: "malformed",
        detail: `its records have format '${found}', this program reads format '${format}'`,
      })
    }
    return yield* reading(() => {
      const tally = Tally.make()
      let sequence = 0
      for (const key of kv.keys("index", Key.all)) {
        const [caller, resource, status] = Key.parts(key)
        if (caller === undefined || resource === undefined || !isStatus(status)) continue
        tally.add({ resource, caller }, status)
        sequence = Math.max(sequence, Key.lastNumber(key))
      }
      return { tally, sequence }
    })
  })

const commit = (kv: Kv, ops: ReadonlyArray<Op>): Effect.Effect<void, KvError> =>
  Effect.async((resume) => kv.commit(ops, (error) => resume(error === null ? Effect.void : Effect.fail(error))))
