import { randomUUID } from "node:crypto"
import { Deferred, Effect, Exit, Logger, Scope } from "effect"
import { Redis } from "ioredis"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { type JobId, makeId } from "../../src/Job.js"
import * as Engine from "../../src/Offload/BullMq/Engine.js"
import { Proxy } from "../chaos/Proxy.js"
import { waitUntil } from "../e2e/Service.js"
import { hasRedis, RedisServer } from "../Store/redisServer.js"

describe.skipIf(!hasRedis)("the engine of a fleet", () => {
  const redis = new RedisServer()
  let proxy: Proxy | undefined
  beforeAll(() => redis.start())
  afterEach(() => proxy?.stop())
  afterAll(() => redis.dispose())

  const run = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.runPromise(Effect.provide(effect, Logger.remove(Logger.defaultLogger)))

  const optionsOf = (url: string): Engine.Options => ({
    connect: () => new Redis(url, { maxRetriesPerRequest: null }),
    connectToWait: () => new Redis(url, { maxRetriesPerRequest: null }),
    prefix: `{${randomUUID()}}:bull`,
    leaseMillis: 30_000,
    onError: () => {},
  })

  /** An engine with one permit, whose first id is being worked on until `gate` opens, and whose second one waits. */
  const begin = (options: Engine.Options, ids: ReadonlyArray<JobId>) =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const gate = yield* Deferred.make<void>()
      const taken: Array<JobId> = []
      const engine = yield* Scope.extend(Engine.make("llm", options), scope)
      yield* engine.setCeiling(1)
      yield* engine.add(ids)
      const take = (id: JobId) =>
        Effect.as(
          Effect.zipRight(
            Effect.sync(() => taken.push(id)),
            Deferred.await(gate),
          ),
          "done" as const,
        )
      yield* Scope.extend(
        engine.work(1, take, () => {}),
        scope,
      )
      yield* Effect.promise(() => waitUntil(() => taken.length === 1))
      return { close: Scope.close(scope, Exit.void), gate, taken }
    })

  /** The ids that can be taken, and those that somebody has. */
  const left = async ({ prefix }: Engine.Options) => {
    const client = new Redis(redis.url)
    const [wait, active] = await Promise.all(
      ["wait", "active"].map((list) => client.lrange(`${prefix}:llm:${list}`, 0, -1)),
    )
    client.disconnect()
    return { wait, active }
  }

  it("puts an id back that it was working on when its scope ended", async () => {
    const options = optionsOf(redis.url)
    const [first, second] = [makeId(1), makeId(2)]
    const { close, taken } = await run(begin(options, [first, second]))
    await run(close)
    expect(taken).toEqual([first])
    const { active, wait } = await left(options)
    expect(active).toEqual([])
    expect(wait?.toSorted()).toEqual([first, second])
  })

  it("puts an id back that it was fetching when its scope ended, and ends", async () => {
    const way = await new Proxy(Number(new URL(redis.url).port)).start()
    proxy = way
    const options = optionsOf(way.url)
    const [first, second] = [makeId(1), makeId(2)]
    const { close, gate, taken } = await run(begin(options, [first, second]))
    // What ends the first id fetches the second one. Its answer comes when nobody is there any more to take that.
    way.millis = 500
    way.fault = "slow"
    await run(Deferred.succeed(gate, undefined))
    await waitUntil(() => way.struck > 0)
    await run(close)
    expect(taken).toEqual([first])
    expect(await left(options)).toEqual({ active: [], wait: [second] })
  })
})
