import { Context, Effect, Layer } from "effect"
import { it } from "vitest"
import * as Lmdb from "../../src/Store/Lmdb.js"
import { Store } from "../../src/Store.js"
import { folder } from "../Store/folder.js"
import { holds } from "./property.js"
import { timeoutMillis } from "./runs.js"

/** A folder that each process opens after the one before has closed it. */
const data = Effect.map(folder, (path) =>
  Effect.map(Layer.build(Lmdb.layer({ path })), (context) => Context.get(context, Store)),
)

it(
  "a store in a folder does what the model says, whatever its caller learns of it",
  () => holds(data, 100),
  timeoutMillis,
)
