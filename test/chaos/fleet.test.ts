/**
 * Promises 1, 3 and 6 over three processes on one Redis: whichever of them is killed, stopped or restarted, and
 * whatever becomes of Redis meanwhile, every accepted job ends once, never more attempts live than the ceiling allows,
 * and never two of one job.
 */
import { randomUUID } from "node:crypto"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { type Service, waitUntil } from "../e2e/Service.js"
import { hasRedis, RedisServer } from "../Store/redisServer.js"
import { makeChance, scale, sleep } from "./Chance.js"
import { Fleet } from "./Fleet.js"
import { Ledger } from "./Ledger.js"
import { Lives } from "./Lives.js"
import { load } from "./load.js"

describe.skipIf(!hasRedis)("three processes on Redis", () => {
  const redis = new RedisServer()
  let fleet: Fleet
  let lives: Lives

  beforeAll(() => redis.start())
  afterAll(() => redis.dispose())

  beforeEach(async () => {
    lives = new Lives()
    fleet = await new Fleet(3, {
      ...lives.env,
      REDIS_URL: redis.url,
      OFFLOAD_REDIS_PREFIX: `{${randomUUID()}}:`,
      OFFLOAD_DRAIN_SECONDS: "1",
      OFFLOAD_LEASE_SECONDS: "3",
    }).start()
  })
  afterEach(async () => {
    await fleet.dispose()
    lives?.dispose()
  })

  const isReady = () =>
    waitUntil(
      async () => (await fleet.call("GET", "/health/ready")).status === 200,
      () => `nobody is ready again:\n${fleet.log.slice(-3000)}`,
      120,
    )

  it(
    "that are killed, stopped and restarted, and so is their Redis, while jobs are cancelled",
    async () => {
      const chance = makeChance()
      const ledger = new Ledger(fleet)
      const stopLoad = load(ledger, chance)

      const without = async (node: Service, fault: () => Promise<void>) => {
        fleet.away.add(node)
        await fault()
        fleet.away.delete(node)
      }
      const faults: ReadonlyArray<(node: Service) => Promise<void>> = [
        (node) =>
          without(node, async () => {
            await node.kill()
            await sleep(chance.between(0, 4000))
            await node.start()
          }),
        (node) =>
          without(node, async () => {
            node.signal("SIGSTOP")
            // Also for longer than the lease.
            await sleep(chance.between(500, 8000))
            node.signal("SIGCONT")
          }),
        (node) =>
          without(node, async () => {
            await node.stop()
            await node.start()
          }),
        async () => {
          await redis.kill()
          await sleep(chance.between(0, 4000))
          await redis.start()
        },
        async () => {
          redis.signal("SIGSTOP")
          await sleep(chance.between(500, 5000))
          redis.signal("SIGCONT")
        },
      ]
      for (let round = 0; round < scale(5, 50); round++) {
        await sleep(chance.between(200, 1500))
        const fault = faults[round % faults.length] ?? faults[0]
        await fault?.(chance.one(fleet.nodes as [Service, ...Array<Service>]))
        await isReady()
      }
      await stopLoad()
      expect(await ledger.problems(() => lives.read(), 2, scale(150, 900))).toEqual([])
      expect(ledger.accepted.size).toBeGreaterThan(scale(5, 50))
    },
    scale(300_000, 1_800_000),
  )
})
