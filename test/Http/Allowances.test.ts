import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Either, Layer, Redacted } from "effect"
import { afterAll, beforeAll } from "vitest"
import * as Shared from "../../src/Http/Allowances/Redis.js"
import { Allowances } from "../../src/Http/Allowances.js"
import { OffloadConfig } from "../../src/OffloadConfig.js"
import { hasRedis, isInstalled, RedisServer } from "../Store/redisServer.js"
import { suite } from "./allowances.js"

suite("in memory", () => Allowances.layerMemory)

describe.runIf(hasRedis)("of a fleet", () => {
  const server = new RedisServer()
  beforeAll(() => server.start())
  afterAll(() => server.dispose())

  let prefixes = 0
  const process = (redisPrefix: string) =>
    Shared.layer.pipe(
      Layer.provide(OffloadConfig.layer({ redisUrl: Redacted.make(server.url), redisPrefix })),
      Layer.orDie,
    )
  const fresh = () => `{allowances-${Date.now()}-${prefixes++}}:`

  suite("in Redis", () => process(fresh()))

  it.live("two processes share tokens and places", () =>
    Effect.gen(function* () {
      const prefix = fresh()
      const [one, two] = yield* Effect.all([Layer.build(process(prefix)), Layer.build(process(prefix))])
      const places = { all: 3, perCaller: null }
      const asked = yield* Effect.all(
        Array.from({ length: 10 }, (_, n) => Context.get(n % 2 === 0 ? one : two, Allowances).enter("ada", places)),
        { concurrency: "unbounded" },
      )
      expect(asked.filter((isIn) => isIn)).toHaveLength(3)
      const taken = yield* Effect.all(
        Array.from({ length: 10 }, (_, n) =>
          Effect.async<boolean>((resume) =>
            Context.get(n % 2 === 0 ? one : two, Allowances).take(
              "ada",
              { capacity: 4, perSecond: 0.01 },
              Date.now(),
              (each) => resume(Effect.succeed(Either.getOrThrow(each).isAllowed)),
            ),
          ),
        ),
        { concurrency: "unbounded" },
      )
      expect(taken.filter((isAllowed) => isAllowed)).toHaveLength(4)
    }).pipe(Effect.scoped),
  )

  it.live.runIf(isInstalled)("allows nothing while Redis is away", () =>
    Effect.gen(function* () {
      const allowances = yield* Allowances
      yield* Effect.promise(() => server.kill())
      const refused = yield* Effect.flip(Effect.scoped(allowances.enter("ada", { all: 1, perCaller: null })))
      expect(refused._tag).toBe("StoreError")
      const taken = yield* Effect.async<Either.Either<unknown, unknown>>((resume) =>
        allowances.take("ada", { capacity: 1, perSecond: 1 }, Date.now(), (each) => resume(Effect.succeed(each))),
      )
      expect(Either.isLeft(taken)).toBe(true)
      yield* Effect.promise(() => server.start())
    }).pipe(Effect.provide(process(fresh()))),
  )
})
