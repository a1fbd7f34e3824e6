import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { NodeContext } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { makeId } from "../../src/Job.js"
import { Spool } from "../../src/Offload/Spool.js"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "offload-spool-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true })),
)

/** The spool as each process has it. */
const opened = (path: string) => Effect.provide(Spool, Layer.provide(Spool.layer(path), NodeContext.layer))

describe("a spool", () => {
  it.scopedLive("that two processes replay at once gives each outcome to one of them at least, and fails in none", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const [one, two] = [yield* opened(path), yield* opened(path)]
      const ids = Array.from({ length: 100 }, (_, n) => makeId(n))
      for (const id of ids) yield* one.save({ id, attempt: 1, outcome: { _tag: "Interrupted" }, text: "", at: 0 })
      const taken = new Set<string>()
      const replay = (spool: Spool["Type"]) =>
        spool.replay(({ id }) =>
          Effect.zipRight(
            Effect.yieldNow(),
            Effect.sync(() => taken.add(id)),
          ),
        )
      yield* Effect.all([replay(one), replay(two)], { concurrency: "unbounded" })
      expect(taken).toEqual(new Set(ids))
      expect(readdirSync(path)).toEqual([])
      expect(yield* one.replay(() => Effect.void)).toBe(0)
    }),
  )
})
