import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { NodeContext } from "@effect/platform-node"
import { afterAll, describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Layer, Scope } from "effect"
import type { JobId } from "../../src/Job.js"
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
      claim: (id, adapter, name) => guard("claim", store.claim(id, adapter, name)),
      append: (id, attempt, piece) => guard("append", store.append(id, attempt, piece)),
      settle: (id, attempt, outcome, last) => guard("settle", store.settle(id, attempt, outcome, last)),
      queued: (resource, limit, turns) => guard("queued", store.queued(resource, limit, turns)),
      advance: (options) => guard("advance", store.advance(options)),
      ping: guard("ping", store.ping),
    })
  })

/** Whether the log says of an outcome that it is not stored yet. */
const isToldOf = (lines: ReadonlyArray<Line>) => lines.some(({ message }) => message === "outcome not stored yet")

/** A store whose claims and pieces of output are stored, but fail where `fails` says so. */
const unclearly = (fails: (operation: "claim" | "append") => boolean) =>
  Layer.map(Memory.layer, (context) => {
    const store = Context.get(context, Store)
    const after = <A, E>(
      operation: "claim" | "append",
      effect: Effect.Effect<A, E>,
    ): Effect.Effect<A, E | StoreError> =>
      Effect.flatMap(effect, (answer) =>
        fails(operation)
          ? new StoreError({ operation, reason: "unavailable", detail: "its answer was lost" })
          : Effect.succeed(answer),
      )
    return Context.make(Store, {
      ...store,
      claim: (id, adapter, name) => after("claim", store.claim(id, adapter, name)),
      append: (id, attempt, piece) => after("append", store.append(id, attempt, piece)),
    })
  })

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

  it.live("a job runs once where its claim and its output were stored by writes that seemed to fail", () => {
    const failures = { claim: 2, append: 2 }
    const unclear = unclearly((operation) => failures[operation]-- > 0)
    return Effect.gen(function* () {
      const offload = yield* Offload
      const job = yield* submit("hello")
      yield* untilStatus(job.id, "succeeded")
      const { job: ended, output } = yield* offload.get(job.id)
      expect(ended.attempts.map(({ outcome }) => outcome)).toEqual(["succeeded"])
      expect(output).toBe("one, two, three")
    }).pipe(
      Effect.provide(
        service(
          ({ onText }) =>
            Effect.gen(function* () {
              onText("one, ")
              yield* holds(() => failures.append < 2)
              onText("two, ")
              yield* holds(() => failures.append < 0)
              onText("three")
            }).pipe(Effect.orDie),
          {},
          unclear,
        ),
      ),
    )
  })

  it.live("a job that is cancelled while its claim is tried again is not left running", () => {
    let claims = 0
    let down = true
    return Effect.gen(function* () {
      const offload = yield* Offload
      const job = yield* submit("hello")
      yield* holds(() => claims > 0)
      yield* offload.cancel(job.id)
      const tried = claims
      yield* holds(() => claims > tried + 1)
      expect((yield* offload.job(job.id)).status).toBe("running")
      down = false
      const ended = yield* untilStatus(job.id, "cancelled")
      expect(ended.attempts.map(({ outcome }) => outcome)).toEqual(["cancelled"])
    }).pipe(
      Effect.provide(
        service(
          () => Effect.never,
          {},
          unclearly((operation) => {
            if (operation === "claim") claims++
            return operation === "claim" && down
          }),
        ),
      ),
    )
  })

  it.live("an outcome that is not stored yet lets the next job be claimed, but not begin, and no third one", () => {
    let stuck = true
    let first: JobId | null = null
    const begun: Array<string> = []
    const lines: Array<Line> = []
    const choosy = Layer.map(Memory.layer, (context) => {
      const store = Context.get(context, Store)
      return Context.make(Store, {
        ...store,
        settle: (id, attempt, outcome, last) =>
          stuck && id === first
            ? new StoreError({ operation: "settle", reason: "unavailable", detail: "it is too large for now" })
            : store.settle(id, attempt, outcome, last),
      })
    })
    const go = Effect.runSync(Deferred.make<void>())
    return Effect.gen(function* () {
      const offload = yield* Offload
      const jobs = yield* Effect.all([submit("first"), submit("second"), submit("third")])
      first = jobs[0].id
      yield* Deferred.succeed(go, undefined)
      yield* holds(() => isToldOf(lines))
      yield* untilStatus(jobs[1].id, "running")
      // Ticks of the dispatcher and tries of the store go by.
      yield* Effect.sleep(1500)
      expect(begun).toEqual(["first"])
      expect((yield* offload.job(jobs[0].id)).status).toBe("running")
      expect((yield* offload.job(jobs[2].id)).status).toBe("queued")
      stuck = false
      yield* Effect.forEach(jobs, ({ id }) => untilStatus(id, "succeeded"))
      expect(begun).toEqual(["first", "second", "third"])
    }).pipe(
      Effect.provide(
        service(
          ({ input }) =>
            Effect.zipRight(
              Effect.sync(() => begun.push(input.prompt)),
              Deferred.await(go),
            ),
          { permits: 1 },
          choosy,
        ).pipe(Layer.provideMerge(captureLog(lines))),
      ),
    )
  })

  it.live(
    "a job that is cancelled while it waits for the outcome before its own is cancelled, and never begins",
    () => {
      let stuck = true
      const begun: Array<string> = []
      const lines: Array<Line> = []
      const down = Layer.map(Memory.layer, (context) => {
        const store = Context.get(context, Store)
        return Context.make(Store, {
          ...store,
          settle: (id, attempt, outcome, last) =>
            stuck && outcome._tag === "Succeeded"
              ? new StoreError({ operation: "settle", reason: "unavailable", detail: "it is down" })
              : store.settle(id, attempt, outcome, last),
        })
      })
      return Effect.gen(function* () {
        const offload = yield* Offload
        const first = yield* submit("first")
        const second = yield* submit("second")
        yield* holds(() => isToldOf(lines))
        yield* untilStatus(second.id, "running")
        yield* offload.cancel(second.id)
        yield* untilStatus(second.id, "cancelled")
        stuck = false
        yield* untilStatus(first.id, "succeeded")
        expect(begun).toEqual(["first"])
      }).pipe(
        Effect.provide(
          service(({ input }) => Effect.sync(() => begun.push(input.prompt)), { permits: 1 }, down).pipe(
            Layer.provideMerge(captureLog(lines)),
          ),
        ),
      )
    },
  )

  it.live("a bug in the middle of settling leaves no job running for ever", () => {
    let bugs = 1
    const buggy = Layer.map(Memory.layer, (context) => {
      const store = Context.get(context, Store)
      return Context.make(Store, {
        ...store,
        settle: (id, attempt, outcome, last) =>
          Effect.suspend(() =>
            bugs-- > 0 ? Effect.die(new Error("a bug")) : store.settle(id, attempt, outcome, last),
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
