import { randomUUID } from "node:crypto"
import { Context, Effect, Layer, Logger, Redacted } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { LlmRateLimited } from "../../src/Job/JobError.js"
import { type JobId, makeId } from "../../src/Job.js"
import * as BullMq from "../../src/Offload/BullMq.js"
import { Spool } from "../../src/Offload/Spool.js"
import { Worker } from "../../src/Offload/Worker.js"
import { Offload } from "../../src/Offload.js"
import { OffloadConfig, type Settings } from "../../src/OffloadConfig.js"
import * as Redis from "../../src/Store/Redis.js"
import { Store } from "../../src/Store.js"
import { Webhook } from "../../src/Webhook.js"
import { waitUntil } from "../e2e/Service.js"
import { hasRedis, RedisServer } from "../Store/redisServer.js"
import { piece, submission, succeeded } from "../Store/submission.js"
import { holds, llm, type Script, submit, until, untilStatus } from "./harness.js"

describe.skipIf(!hasRedis)("one of many processes", () => {
  const redis = new RedisServer()
  beforeAll(() => redis.start())
  afterAll(() => redis.dispose())

  /** A node of the fleet of `redisPrefix`, whose work says who runs it. */
  const node = (redisPrefix: string, script: Script, settings: Partial<Settings> = {}) =>
    Layer.fresh(Offload.layerDispatched(BullMq.layer)).pipe(
      Layer.provide(Worker.layerLlm),
      Layer.provide(llm(script)),
      Layer.provide(Webhook.layerNone),
      Layer.provideMerge(Redis.layer({ url: redis.url, prefix: redisPrefix })),
      Layer.provide(Spool.layerNone),
      Layer.provide(
        OffloadConfig.layer({ redisUrl: Redacted.make(redis.url), redisPrefix, permits: 2, drain: 0, ...settings }),
      ),
    )

  const ended = (store: Store["Type"], id: JobId) =>
    Effect.zipRight(
      Effect.promise(() => waitUntil(async () => (await Effect.runPromise(store.get(id))).status === "succeeded")),
      store.get(id),
    )

  it("runs a job that was in two deaths alone on its node, while the other nodes go on within the ceiling", async () => {
    const redisPrefix = `{${randomUUID()}}:`
    const resources = JSON.stringify({ llm: { adapter: "demo" }, other: { adapter: "demo" } })
    const running = { a: new Set<string>(), b: new Set<string>() }
    const beside: Array<string> = []
    let suspects = 0
    let most = 0
    const work =
      (name: "a" | "b"): Script =>
      ({ input: { prompt } }) =>
        Effect.gen(function* () {
          const here = running[name]
          if (prompt === "suspect" || here.has("suspect")) beside.push(...here)
          here.add(prompt)
          const all = [...running.a, ...running.b]
          most = Math.max(most, all.filter((each) => !each.startsWith("other")).length)
          if (prompt === "suspect") suspects++
          yield* Effect.sleep(prompt === "suspect" ? 3000 : 150).pipe(
            Effect.ensuring(Effect.sync(() => here.delete(prompt))),
          )
        })

    const program = Effect.gen(function* () {
      const store = Context.get(
        yield* Layer.build(Layer.fresh(Redis.layer({ url: redis.url, prefix: redisPrefix }))),
        Store,
      )
      const save = (prompt: string, resource: string) =>
        Effect.map(
          store.create(submission({ id: makeId(0), resource, input: { prompt } }), { maxQueued: 1000 }),
          ({ job }) => job.id,
        )
      const suspect = yield* save("suspect", "llm")
      for (const attempt of [1, 2]) {
        yield* store.claim(suspect, "earlier")
        yield* store.settle(suspect, attempt, { _tag: "Orphaned", retryAt: 0 })
        yield* store.advance({ retentionMillis: 1e9 })
      }
      const others = yield* Effect.forEach(Array.from({ length: 40 }), (_, n) =>
        save(`${n % 2 === 0 ? "llm" : "other"} ${n}`, n % 2 === 0 ? "llm" : "other"),
      )
      yield* Effect.all(
        [
          Layer.build(node(redisPrefix, work("a"), { resources })),
          Layer.build(node(redisPrefix, work("b"), { resources })),
        ],
        { concurrency: "unbounded" },
      )
      const begun = Effect.map(
        Effect.filter(others, (id) => Effect.map(store.get(id), ({ status }) => status !== "queued")),
        (found) => found.length,
      )
      yield* Effect.promise(() => waitUntil(() => suspects > 0))
      const before = yield* begun
      yield* ended(store, suspect)
      // The other node has not stood still.
      expect(yield* begun).toBeGreaterThan(before)
      for (const id of others) yield* ended(store, id)
      expect(beside).toEqual([])
      expect(suspects).toBe(1)
      expect(most).toBeLessThanOrEqual(2)
    })
    await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Logger.remove(Logger.defaultLogger))))
  })

  it("goes on with everything after its suspects have run, with nobody else to help", async () => {
    const redisPrefix = `{${randomUUID()}}:`
    const running = new Set<string>()
    const began: Array<readonly [name: string, beside: ReadonlyArray<string>]> = []
    const work: Script = ({ input: { prompt } }) =>
      Effect.sync(() => {
        began.push([prompt, [...running]])
        running.add(prompt)
      }).pipe(Effect.zipRight(Effect.sleep(300)), Effect.ensuring(Effect.sync(() => running.delete(prompt))))
    const program = Effect.gen(function* () {
      const store = Context.get(
        yield* Layer.build(Layer.fresh(Redis.layer({ url: redis.url, prefix: redisPrefix }))),
        Store,
      )
      const ids: Array<JobId> = []
      for (const prompt of ["one", "suspect 1", "two", "suspect 2", "three", "four"]) {
        const { job } = yield* store.create(submission({ id: makeId(0), input: { prompt } }), { maxQueued: 1000 })
        ids.push(job.id)
        for (const attempt of prompt.startsWith("suspect") ? [1, 2] : []) {
          yield* store.claim(job.id, "earlier")
          yield* store.settle(job.id, attempt, { _tag: "Orphaned", retryAt: 0 })
          yield* store.advance({ retentionMillis: 1e9 })
        }
      }
      yield* Layer.build(node(redisPrefix, work))
      for (const id of ids) yield* ended(store, id)
      for (const [name, beside] of began) {
        if (name.startsWith("suspect")) expect(beside).toEqual([])
        else expect(beside.filter((each) => each.startsWith("suspect"))).toEqual([])
      }
      expect(began).toHaveLength(6)
    })
    await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Logger.remove(Logger.defaultLogger))))
  })

  it("has drained, and what another one finds of it is interrupted and costs no attempt", async () => {
    const redisPrefix = `{${randomUUID()}}:`
    const program = Effect.gen(function* () {
      const id = yield* Effect.scoped(
        Effect.gen(function* () {
          const dead = Context.get(yield* Layer.build(Redis.layer({ url: redis.url, prefix: redisPrefix })), Store)
          const { job } = yield* dead.create(submission({ maxAttempts: 1 }), { maxQueued: 1000 })
          yield* dead.claim(job.id, "dead")
          yield* dead.drain
          return job.id
        }),
      )
      const living = Context.get(yield* Layer.build(node(redisPrefix, () => Effect.void)), Store)
      const job = yield* ended(living, id)
      expect(job.attempts.map(({ outcome }) => outcome)).toEqual(["interrupted", "succeeded"])
    })
    await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Logger.remove(Logger.defaultLogger))))
  })

  it("keeps the place of a job that another one has claimed before it, until that one is done", async () => {
    const redisPrefix = `{${randomUUID()}}:`
    const storeLayer = Redis.layer({ url: redis.url, prefix: redisPrefix })
    const began: Array<string> = []
    let looks = 0

    const program = Effect.gen(function* () {
      const other = Context.get(yield* Layer.build(Layer.fresh(storeLayer)), Store)
      let isFirst = true
      /** Who was brought the job earlier claims it a moment before. */
      const late = Layer.map(Layer.fresh(storeLayer), (context) => {
        const store = Context.get(context, Store)
        return Context.make(Store, {
          ...store,
          claim: (...call) => {
            const before = isFirst ? Effect.asVoid(other.claim(call[0], "other")) : Effect.void
            isFirst = false
            return Effect.zipRight(before, store.claim(...call))
          },
          awaitEvent: (...call) => {
            looks++
            return store.awaitEvent(...call)
          },
        })
      })
      const service = Offload.layerDispatched(BullMq.layer).pipe(
        Layer.provide(Worker.layerLlm),
        Layer.provide(llm(({ input }) => Effect.sync(() => began.push(input.prompt)))),
        Layer.provide(Webhook.layerNone),
        Layer.provide(late),
        Layer.provide(Spool.layerNone),
        Layer.provide(OffloadConfig.layer({ redisUrl: Redacted.make(redis.url), redisPrefix, permits: 1, drain: 0 })),
      )
      yield* Effect.gen(function* () {
        const first = yield* submit("first")
        const second = yield* submit("second")
        yield* holds(() => looks > 0 || began.length > 0)
        expect(began).toEqual([])
        expect((yield* other.get(first.id)).status).toBe("running")
        yield* other.settle(first.id, 1, succeeded, piece(""))
        yield* untilStatus(second.id, "succeeded")
        expect(began).toEqual(["second"])
      }).pipe(Effect.provide(service))
    })
    await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Logger.remove(Logger.defaultLogger))))
  })

  it("delivers with the others no more to a host, and for a caller, at once than all of them may", async () => {
    const redisPrefix = `{${randomUUID()}}:`
    const posted: Array<string> = []
    const webhook = Layer.succeed(Webhook, {
      check: () => Effect.void,
      post: ({ url }) =>
        Effect.zipRight(
          Effect.sync(() => posted.push(url)),
          url.includes("slow") ? Effect.never : Effect.void,
        ),
    })
    const node = Offload.layerDispatched(BullMq.layer).pipe(
      Layer.provide(Worker.layerLlm),
      Layer.provide(llm(() => Effect.void)),
      Layer.provide(webhook),
      Layer.provide(Redis.layer({ url: redis.url, prefix: redisPrefix })),
      Layer.provide(Spool.layerNone),
      Layer.provide(
        OffloadConfig.layer({
          redisUrl: Redacted.make(redis.url),
          redisPrefix,
          permits: 8,
          drain: 0,
          webhookSecrets: [Redacted.make("unused")],
          webhookPermits: 6,
          webhookPermitsPerHost: 2,
          webhookPermitsPerCaller: 3,
        }),
      ),
    )
    const program = Effect.gen(function* () {
      const offload = Context.get(yield* Layer.build(Layer.fresh(node)), Offload)
      yield* Layer.build(Layer.fresh(node))
      const send = (caller: string, url: string) =>
        offload.submit({ caller, input: { prompt: "p" }, metadata: {}, webhook: { url } })
      const slow = () => posted.filter((url) => url.includes("slow")).length
      yield* Effect.forEach(Array(12), () => send("ada", "https://slow.test/"))
      yield* holds(() => slow() >= 2)
      yield* send("ada", "https://fast.test/ada")
      yield* holds(() => posted.includes("https://fast.test/ada"))
      yield* Effect.forEach(Array(12), (_, n) => send("ada", `https://slow-${n}.test/`))
      yield* holds(() => slow() >= 3)
      yield* send("bob", "https://fast.test/bob")
      yield* holds(() => posted.includes("https://fast.test/bob"))
      // Two that look in the same moment may begin one more.
      expect(slow()).toBeLessThanOrEqual(4)
    })
    await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(Logger.remove(Logger.defaultLogger))))
  }, 120_000)
  it("lets the job go that found a hold out, once that is ended by hand", async () => {
    const redisPrefix = `{${randomUUID()}}:`
    let calls = 0
    const refusal = new LlmRateLimited({
      kind: "quota",
      retryAfterMillis: 3_600_000,
      evidence: "structured",
      stderr: "",
    })
    const service = Offload.layerDispatched(BullMq.layer).pipe(
      Layer.provide(Worker.layerLlm),
      Layer.provide(llm(() => Effect.suspend(() => (calls++ === 0 ? Effect.fail(refusal) : Effect.void)))),
      Layer.provide(Webhook.layerNone),
      Layer.provide(Redis.layer({ url: redis.url, prefix: redisPrefix })),
      Layer.provide(Spool.layerNone),
      Layer.provide(OffloadConfig.layer({ redisUrl: Redacted.make(redis.url), redisPrefix, permits: 1, drain: 0 })),
    )
    const program = Effect.gen(function* () {
      const offload = yield* Offload
      const { id } = yield* submit("first", { maxAttempts: 1 })
      yield* until(id, ({ attempts }) => attempts[0]?.outcome === "refused")
      expect(yield* offload.change("llm", { heldUntil: null })).toMatchObject({ heldUntil: null })
      yield* untilStatus(id, "succeeded")
      expect(calls).toBe(2)
    })
    await Effect.runPromise(
      program.pipe(Effect.provide(Layer.provideMerge(service, Logger.remove(Logger.defaultLogger)))),
    )
  })
})
