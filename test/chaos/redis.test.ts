/**
 * Promises 1, 2, 6 and 9 with Redis behind a line that fails in every way, and a Redis that is frozen or killed: nothing
 * is accepted that Redis has not acknowledged, running jobs go on, and all of it lands when Redis is back.
 */
import { randomUUID } from "node:crypto"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { Service, waitUntil } from "../e2e/Service.js"
import { fastest } from "../fastest.js"
import { hasRedis, RedisServer } from "../Store/redisServer.js"
import { makeChance, scale, sleep } from "./Chance.js"
import { Ledger } from "./Ledger.js"
import { Lives } from "./Lives.js"
import { load } from "./load.js"
import { type Fault, Proxy } from "./Proxy.js"

describe.skipIf(!hasRedis)("one service on Redis", () => {
  const redis = new RedisServer()
  let service: Service
  let lives: Lives
  let proxy: Proxy

  beforeAll(() => redis.start())
  afterAll(() => redis.dispose())

  beforeEach(async () => {
    lives = new Lives()
    proxy = await new Proxy(Number(new URL(redis.url).port)).start()
    service = await new Service({
      ...lives.env,
      REDIS_URL: proxy.url,
      OFFLOAD_REDIS_PREFIX: `{${randomUUID()}}:`,
      OFFLOAD_DRAIN_SECONDS: "1",
    }).start()
  })
  afterEach(async () => {
    await service?.dispose()
    proxy.stop()
    lives?.dispose()
  })

  const isReady = () =>
    waitUntil(
      async () => (await service.call("GET", "/health/ready")).status === 200,
      () => `it is not ready again:\n${service.log.slice(-3000)}`,
      120,
    )

  it(
    "whose line is slow, cut, silent or deaf, again and again",
    async () => {
      const chance = makeChance()
      const ledger = new Ledger(service)
      const stopLoad = load(ledger, chance)
      const faults: ReadonlyArray<Fault> = ["slow", "cut", "silent", "deaf"]
      for (let round = 0; round < scale(4, 60); round++) {
        await sleep(chance.between(100, 600))
        proxy.millis = chance.one([50, 300, 700])
        proxy.fault = faults[round % faults.length] ?? "cut"
        await sleep(chance.between(100, 2500))
        const isKilled = chance.is(0.3)
        if (isKilled) await service.kill()
        proxy.fault = "fine"
        if (isKilled) await service.start()
        await isReady()
      }
      await stopLoad()
      expect(await ledger.problems(() => lives.read(), 2, scale(150, 900))).toEqual([])
      expect(proxy.struck).toBeGreaterThan(0)
      expect(ledger.accepted.size).toBeGreaterThan(0)
    },
    scale(240_000, 1_800_000),
  )

  it("that is frozen: a POST is refused within two seconds, and what runs lands later", async () => {
    const ledger = new Ledger(service)
    const id = await ledger.submit({ text: "kept", chunks: 4, millis: 1500 })
    await waitUntil(() => lives.read().length === 1)
    redis.signal("SIGSTOP")
    try {
      const millis = await fastest(2000, async () => {
        const began = Date.now()
        expect(await ledger.submit({ text: "maybe" })).toBeUndefined()
        return Date.now() - began
      })
      expect(millis).toBeLessThan(2000)
      // It may come to it when it thaws.
      expect(ledger.refusals).toEqual(new Set(["503 /problems/maybe-saved"]))
      expect((await service.call("GET", "/health/live")).status).toBe(200)
      await waitUntil(() => lives.of(id ?? "").some(({ ended }) => ended))
    } finally {
      redis.signal("SIGCONT")
    }
    await isReady()
    expect(await ledger.problems(() => lives.read())).toEqual([])
  })

  it(
    "that is killed with -9, and reads its file again",
    async () => {
      const chance = makeChance()
      const ledger = new Ledger(service)
      const stopLoad = load(ledger, chance)
      for (let round = 0; round < scale(1, 30); round++) {
        await sleep(chance.between(0, 800))
        await redis.kill()
        if (chance.is(0.5)) await sleep(chance.between(0, 1500))
        await redis.start()
        await isReady()
      }
      await stopLoad()
      expect(await ledger.problems(() => lives.read(), 2, scale(150, 900))).toEqual([])
    },
    scale(240_000, 1_800_000),
  )
})
