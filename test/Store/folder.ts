/** Folders for stores, gone with the test. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Layer } from "effect"
import * as Lmdb from "../../src/Store/Lmdb.js"

export const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "offload-store-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true })),
)

/** A store in a folder of its own. */
export const layer = Layer.unwrapScoped(Effect.map(folder, (path) => Lmdb.layer({ path })))
