import { Effect } from "effect"
import { it } from "vitest"
import * as KvStore from "../../src/Store/KvStore.js"
import * as Memory from "../../src/Store/Memory.js"
import { holds } from "./property.js"
import { timeoutMillis } from "./runs.js"

/** The rows outlive each process that opens them. */
const data = Effect.sync(() => {
  const kv = Memory.makeKv()
  return KvStore.make(kv, "memory")
})

it(
  "a store in memory does what the model says, whatever its caller learns of it",
  () => holds(data, 1750),
  timeoutMillis,
)
