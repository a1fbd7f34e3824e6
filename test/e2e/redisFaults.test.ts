/** What becomes of the service when its Redis is emptied, or takes no writes. The rest stands in `test/chaos`. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Redis } from "ioredis"
import OpenAI from "openai"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { Proxy } from "../chaos/Proxy.js"
import { isInstalled, RedisServer } from "../Store/redisServer.js"
import { processesWith, Service, standIn, waitUntil } from "./Service.js"

const work = (what: Record<string, unknown>) => JSON.stringify(what)

describe.skipIf(!isInstalled)("a Redis", () => {
  let redis: RedisServer
  let nodes: ReadonlyArray<Service>
  let folder: string

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "offload-faults-"))
    redis = await new RedisServer().start()
    const node = () =>
      new Service({
        OFFLOAD_LLM: "command",
        OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
        OFFLOAD_DRAIN_SECONDS: "1",
        REDIS_URL: redis.url,
      })
    nodes = [node(), node()]
    await Promise.all(nodes.map((each) => each.start()))
  })
  afterEach(async () => {
    await Promise.all(nodes.map((each) => each.dispose()))
    await redis.dispose()
    rmSync(folder, { recursive: true, force: true })
  })

  const status = async (node: Service, path: string) => (await node.call("GET", path)).status
  const both = () => nodes as readonly [Service, Service]

  it("that is emptied has lost its jobs: what ran of them is ended, and new ones find the same ceiling", async () => {
    const [one, two] = both()
    const lost: Array<string> = []
    for (let n = 0; n < 3; n++) lost.push((await one.submit(work({ millis: 600_000 }))).body.id)
    await waitUntil(() => lost.filter((id) => processesWith(`${id}.`).length > 0).length === 2)
    await redis.kill()
    redis.wipe()
    await redis.start()
    for (const node of nodes) await waitUntil(async () => (await status(node, "/health/ready")) === 200)
    for (const id of lost) expect(await status(two, `/jobs/${id}`)).toBe(404)
    await waitUntil(() => lost.every((id) => processesWith(`${id}.`).length === 0))
    const ids: Array<string> = []
    for (let n = 0; n < 8; n++)
      ids.push((await (nodes[n % 2] ?? one).submit(work({ text: "new", millis: 200 }))).body.id)
    let most = 0
    await waitUntil(
      async () => {
        most = Math.max(most, ids.filter((id) => processesWith(`${id}.`).length > 0).length)
        const jobs = await Promise.all(ids.map(async (id) => (await one.call("GET", `/jobs/${id}`)).body))
        return jobs.every((job) => job.status === "succeeded")
      },
      undefined,
      60,
    )
    expect(most).toBeGreaterThan(0)
    expect(most).toBeLessThanOrEqual(2)
  })

  it("whose answer is lost: the 503 says that the job may be saved, and a key makes it one job", async () => {
    const proxy = await new Proxy(Number(new URL(redis.url).port)).start()
    const [one] = both()
    const node = new Service({ ...one.env, REDIS_URL: proxy.url })
    try {
      await node.start()
      // Redis has the script: a first call would learn that it has not, and lose that answer.
      await node.submit(work({ text: "first" }), {}, { prefer: "wait=60" })
      const submit = async (text: string, headers: Record<string, string>, fault: "deaf" | "fine") => {
        proxy.fault = fault
        const answer = await node.submit(work({ text }), {}, headers)
        proxy.fault = "fine"
        await waitUntil(async () => (await status(node, "/health/ready")) === 200)
        return answer
      }
      for (const [headers, waits] of [
        [{}, null],
        [{ prefer: "wait=1" }, null],
        [{ "idempotency-key": "k" }, "5"],
      ] as const) {
        const unclear = await submit("once", headers, "deaf")
        expect([unclear.status, unclear.body.type]).toEqual([503, "/problems/maybe-saved"])
        expect(unclear.body.detail).toContain("Idempotency-Key")
        // A client that repeats by itself is told not to, unless its key makes that safe.
        expect(unclear.headers.get("retry-after")).toBe(waits)
        expect(unclear.headers.get("x-should-retry")).toBe(waits === null ? "false" : null)
        expect((await one.ended(unclear.body.jobId, 60)).status).toBe("succeeded")
        if (waits !== null) expect((await submit("once", headers, "fine")).body.id).toBe(unclear.body.jobId)
      }
      proxy.fault = "deaf"
      const openAi = new OpenAI({ baseURL: `${node.url}/v1`, apiKey: "x" })
      // One that waits takes its place among the waits first, which fails before anything is saved.
      const create = openAi.responses.create({ input: work({ text: "openai" }), background: true })
      await expect(create).rejects.toMatchObject({ status: 503, code: "maybe_saved" })
      proxy.fault = "fine"
      const { jobs } = (await one.call("GET", "/jobs?limit=100")).body
      expect(jobs).toHaveLength(5)
    } finally {
      await node.dispose()
      proxy.stop()
    }
  })

  it("whose memory is full is started on: jobs are read, cancelled and removed, and it is ready when there is room", async () => {
    const [one, two] = both()
    const client = new Redis(redis.url)
    try {
      const { body: ended } = await one.submit(work({ text: "ended" }), {}, { prefer: "wait=60" })
      const { body: busy } = await one.submit(work({ millis: 600_000 }))
      await waitUntil(() => processesWith(`${busy.id}.1`).length > 0)
      await client.config("SET", "maxmemory", "1")
      await two.stop()
      await two.start()
      const ready = await two.call("GET", "/health/ready")
      expect([ready.status, ready.body.type]).toEqual([503, "/problems/store-full"])
      expect((await two.call("GET", "/jobs")).body.jobs).toHaveLength(2)
      expect(await status(two, `/jobs/${ended.id}`)).toBe(200)
      expect((await two.call("DELETE", `/jobs/${ended.id}`)).status).toBe(204)
      await two.call("POST", `/jobs/${busy.id}/cancel`)
      expect((await two.ended(busy.id, 60)).status).toBe("cancelled")
      await client.config("SET", "maxmemory", "0")
      await waitUntil(async () => (await status(two, "/health/ready")) === 200)
      expect((await two.submit(work({ text: "new" }), {}, { prefer: "wait=60" })).body.output.text).toBe("new")
    } finally {
      client.disconnect()
    }
  })

  const refusals = {
    "has no memory left": {
      problem: "store-full",
      begin: (client: Redis) => client.config("SET", "maxmemory", "1"),
      end: (client: Redis) => client.config("SET", "maxmemory", "0"),
    },
    "cannot save to its disk": {
      problem: "store-unavailable",
      begin: async (client: Redis) => {
        const [, dir = ""] = (await client.config("GET", "dir")) as ReadonlyArray<string>
        // Where a folder stands in the place of its file, it cannot save.
        mkdirSync(join(dir, "dump.rdb", "taken"), { recursive: true })
        await client.config("SET", "save", "3600 100000")
        await client.bgsave()
        await waitUntil(async () => /rdb_last_bgsave_status:err/.test(await client.info("persistence")))
      },
      end: (client: Redis) => client.config("SET", "stop-writes-on-bgsave-error", "no"),
    },
  }

  it.each(Object.entries(refusals))("that %s refuses writes: jobs that run go on, and land later", async (_, fault) => {
    const [one, two] = both()
    const client = new Redis(redis.url)
    try {
      const until = join(folder, "until")
      const { body } = await one.submit(work({ text: "kept", until }))
      await waitUntil(() => processesWith(`${body.id}.1`).length > 0)
      await fault.begin(client)
      const refused = await two.submit(work({ text: "refused" }))
      expect([refused.status, refused.body.type]).toEqual([503, `/problems/${fault.problem}`])
      expect(await status(two, "/health/ready")).toBe(503)
      expect(await status(two, "/health/live")).toBe(200)
      // It can still be read.
      expect((await two.call("GET", `/jobs/${body.id}`)).body.status).toBe("running")
      writeFileSync(until, "")
      await waitUntil(() => processesWith(`${body.id}.`).length === 0)
      await fault.end(client)
      const ended = await two.ended(body.id, 60)
      expect(ended).toMatchObject({ status: "succeeded", output: { text: "kept" } })
      expect((await one.submit(work({ text: "new" }), {}, { prefer: "wait=60" })).body.output.text).toBe("new")
    } finally {
      client.disconnect()
    }
  })
})
