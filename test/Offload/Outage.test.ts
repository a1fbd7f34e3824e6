import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { NodeContext } from "@effect/platform-node"
import { afterAll, describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Layer, Scope } from "effect"
import { Spool } from "../../src/Offload/Spool.js"
import { Offload } from "../../src/Offload.js"
import * as Memory from "../../src/Store/Memory.js"
import { Store, StoreError } from "../../src/Store.js"
import { captureLog, holds, type Line, service, submit, untilStatus } from "./harness.js"

const folder = mkdtempSync(join(tmpdir(), "offload-spool-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** A store whose writes fail while `isDown`. */
const faulty = (isDown: () => boolean) =>
  Layer.map(Memory.layer, (context) => {
    const store = Context.get(context, Store)
    const guard = <A, E>(operation: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E | StoreError> =>
      Effect.suspend(() =>
        isDown()
          ? Effect.fail(new StoreError({ operation, reason: "unavailable", detail: "it is down" }))
          : (effect as Effect.Effect<A, E | StoreError>),
      )
    return Context.make(Store, {
      ...store,
      create: (job, options) => guard("create", store.create(job, options)),
      claim: (id, adapter) => guard("claim", store.claim(id, adapter)),
      append: (id, attempt, text) => guard("append", store.append(id, attempt, text)),
      settle: (id, attempt, outcome, text) => guard("settle", store.settle(id, attempt, outcome, text)),
      queued: (resource, limit, turns) => guard("queued", store.queued(resource, limit, turns)),
      advance: (options) => guard("advance", store.advance(options)),
      ping: guard("ping", store.ping),
    })
  })

/** Whether the log says of an outcome that it is not stored yet. */
const isToldOf = (lines: ReadonlyArray<Line>) => lines.some(({ message }) => message === "outcome not stored yet")

describe("while the store is out of reach", () => {
  it.live("running jobs go on, and their output and outcome land when it is back", () => {
    let down = false
    const lines: Array<Line> = []
    const finish = Effect.runSync(Deferred.make<void>())
    return Effect.gen(function* () {
      const offload = yield* Offload
      const job = yield* submit("hello")
      const waiting = yield* submit("hello")
      yield* untilStatus(job.id, "running")
      down = true
      yield* Deferred.succeed(finish, undefined)
      expect(Exit.isFailure(yield* Effect.exit(submit("refused")))).toBe(true)
      expect(Exit.isFailure(yield* Effect.exit(offload.readiness))).toBe(true)
      yield* holds(() => isToldOf(lines))
      expect((yield* offload.job(job.id)).status).toBe("running")
      down = false
      yield* untilStatus(job.id, "succeeded")
      yield* untilStatus(waiting.id, "succeeded")
      expect((yield* offload.get(job.id)).output).toBe("the answer")
      expect(yield* offload.readiness).toBe("ready")
    }).pipe(
      Effect.provide(
        service(
          ({ onText }) =>
            Effect.as(
              Effect.zipRight(
                Deferred.await(finish),
                Effect.sync(() => onText("the answer")),
              ),
              {},
            ),
          { permits: 1 },
          faulty(() => down),
        ).pipe(Layer.provideMerge(captureLog(lines))),
      ),
    )
  })

  it.live("an end of the service spools the outcome, and the next start stores it", () =>
    Effect.gen(function* () {
      let down = false
      const lines: Array<Line> = []
      const finish = yield* Deferred.make<void>()
      // One store that outlives the service, as a folder does.
      const memory = yield* Layer.build(faulty(() => down))
      const store = Layer.succeed(Store, Context.get(memory, Store))
      const spool = Spool.layer(folder).pipe(Layer.provide(NodeContext.layer))
      const layer = service(
        ({ onText }) =>
          Effect.as(
            Effect.zipRight(
              Deferred.await(finish),
              Effect.sync(() => onText("paid for")),
            ),
            {},
          ),
        { drain: 0, killGrace: 0 },
        store,
        spool,
      ).pipe(Layer.provideMerge(captureLog(lines)))

      const first = yield* Scope.make()
      const running = yield* Layer.buildWithScope(layer, first)
      const job = yield* Effect.provide(submit("hello"), running)
      yield* Effect.provide(untilStatus(job.id, "running"), running)
      down = true
      yield* Deferred.succeed(finish, undefined)
      yield* holds(() => isToldOf(lines))
      yield* Scope.close(first, Exit.void)
      expect(readdirSync(folder)).toEqual([`${job.id}.1.json`])

      down = false
      yield* Effect.gen(function* () {
        const offload = yield* Offload
        const { job: ended, output } = yield* offload.get(job.id)
        expect(ended).toMatchObject({ status: "succeeded", attempt: 1 })
        expect(output).toBe("paid for")
      }).pipe(Effect.provide(layer))
      expect(readdirSync(folder)).toEqual([])
    }).pipe(Effect.scoped),
  )

  it.live("a bug in the middle of settling leaves no job running for ever", () => {
    let bugs = 1
    const buggy = Layer.map(Memory.layer, (context) => {
      const store = Context.get(context, Store)
      return Context.make(Store, {
        ...store,
        settle: (id, attempt, outcome, text) =>
          Effect.suspend(() =>
            bugs-- > 0 ? Effect.die(new Error("a bug")) : store.settle(id, attempt, outcome, text),
          ),
      })
    })
    return Effect.gen(function* () {
      const job = yield* submit("hello")
      const ended = yield* untilStatus(job.id, "succeeded")
      expect(ended.attempts.map(({ outcome }) => outcome)).toEqual(["orphaned", "succeeded"])
    }).pipe(Effect.provide(service(() => Effect.succeed({}), {}, buggy)))
  })
})
