import { randomUUID } from "node:crypto"
import { Context, Effect, Layer, Logger, Redacted } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { LlmRateLimited } from "../../src/Job/JobError.js"
import * as BullMq from "../../src/Offload/BullMq.js"
import { Spool } from "../../src/Offload/Spool.js"
import { Worker } from "../../src/Offload/Worker.js"
import { Offload } from "../../src/Offload.js"
import { OffloadConfig } from "../../src/OffloadConfig.js"
import * as Redis from "../../src/Store/Redis.js"
import { Store } from "../../src/Store.js"
import { Webhook } from "../../src/Webhook.js"
import { hasRedis, RedisServer } from "../Store/redisServer.js"
import { piece, succeeded } from "../Store/submission.js"
import { holds, llm, submit, until, untilStatus } from "./harness.js"

describe.skipIf(!hasRedis)("one of many processes", () => {
  const redis = new RedisServer()
  beforeAll(() => redis.start())
  afterAll(() => redis.dispose())

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
