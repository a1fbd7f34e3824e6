import { randomUUID } from "node:crypto"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { fastest } from "../fastest.js"
import { hasRedis, RedisServer } from "../Store/redisServer.js"
import { processesWith, Service, standIn, waitUntil } from "./Service.js"

const work = (what: Record<string, unknown>) => JSON.stringify(what)

describe.skipIf(!hasRedis)("the service on Redis", () => {
  const redis = new RedisServer()
  beforeAll(() => redis.start())
  afterAll(() => redis.dispose())

  const env = (more: Record<string, string> = {}) => ({
    OFFLOAD_LLM: "command",
    OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
    REDIS_URL: redis.url,
    OFFLOAD_REDIS_PREFIX: `{${randomUUID()}}:`,
    ...more,
  })

  const use = async (service: Service, test: (service: Service) => Promise<void>) => {
    try {
      await test(await service.start())
    } finally {
      await service.dispose()
    }
  }

  it("keeps jobs there, says so, and finds them again after kill -9: the running one an orphan, the rest in order", () =>
    use(new Service(env({ OFFLOAD_PERMITS: "1" })), async (service) => {
      expect(service.log).toMatch(/store: redis \(127\.0\.0\.1:\d+\)/)
      const running = (await service.submit(work({ text: "again", first: 0 }))).body
      const waiting = []
      for (const text of ["a", "b", "c"]) waiting.push((await service.submit(work({ text }))).body)
      await waitUntil(() => processesWith(`${running.id}.1`).length > 0)
      await service.kill()
      await waitUntil(() => processesWith(`${running.id}.`).length === 0)
      await service.start()
      const ended = [running, ...waiting].map(({ id }) => service.ended(id))
      const [first, ...rest] = await Promise.all(ended)
      expect(first).toMatchObject({
        status: "succeeded",
        attempts: [{ outcome: "orphaned" }, { outcome: "succeeded" }],
      })
      expect(rest.map(({ output }) => output.text)).toEqual(["a", "b", "c"])
      const starts = rest.map(({ startedAt }) => startedAt)
      expect(starts).toEqual([...starts].sort())
    }))

  it("accepts nothing while Redis is away, and what runs meanwhile lands when it is back", () =>
    use(new Service(env()), async (service) => {
      const until = join(service.data, "back")
      const { body } = await service.submit(work({ text: "kept ", chunks: 5, millis: 1000, until }))
      await waitUntil(async () => (await service.call("GET", `/jobs/${body.id}`)).body.status === "running")
      await redis.kill()
      const millis = await fastest(2000, async () => {
        const began = Date.now()
        const refused = await service.submit(work({}))
        expect([refused.status, refused.body.type]).toEqual([503, "/problems/store-unavailable"])
        return Date.now() - began
      })
      expect(millis).toBeLessThan(2000)
      expect((await service.call("GET", "/health/ready")).status).toBe(503)
      expect((await service.call("GET", "/health/live")).status).toBe(200)
      writeFileSync(until, "")
      await waitUntil(() => processesWith(`${body.id}.`).length === 0)
      await redis.start()
      await waitUntil(async () => (await service.call("GET", "/health/ready")).status === 200)
      const ended = await service.ended(body.id)
      expect(ended).toMatchObject({ status: "succeeded", attempts: [{ outcome: "succeeded" }] })
      expect(ended.output.text).toBe([0, 1, 2, 3, 4].map((n) => `kept  ${n}\n`).join(""))
      expect((await service.submit(work({ text: "new" }), {}, { prefer: "wait=60" })).body.output.text).toBe("new")
    }))

  it("streams events, and takes one submission a key", () =>
    use(new Service(env()), async (service) => {
      const key = { "idempotency-key": "k" }
      const answers = await Promise.all(
        Array.from({ length: 50 }, () => service.submit(work({ text: "x", chunks: 20, millis: 1000 }), {}, key)),
      )
      const ids = new Set(answers.map(({ body }) => body.id))
      expect(ids.size).toBe(1)
      const [id] = ids
      const stream = String((await service.call("GET", `/jobs/${id}/events`)).body)
      const numbers = [...stream.matchAll(/^id: (\d+)$/gm)].map(([, number]) => Number(number))
      expect(numbers).toEqual(numbers.map((_, n) => n + 1))
      expect(stream).toContain("event: done")
      const rest = String(
        (await service.call("GET", `/jobs/${id}/events`, undefined, { "last-event-id": String(numbers[3]) })).body,
      )
      expect(stream.endsWith(rest.replace("retry: 1000\n\n", ""))).toBe(true)
    }))
})
