/**
 * Promise 12: after thousands of short jobs there is no more than after the first hundreds: descriptors, memory, folders,
 * zombies, records of the store.
 */
import { randomUUID } from "node:crypto"
import { mkdirSync, readdirSync, readFileSync, readlinkSync } from "node:fs"
import { join } from "node:path"
import { Redis } from "ioredis"
import { open } from "lmdb"
import { afterEach, describe, expect, it } from "vitest"
import { tables } from "../../src/Store/Kv.js"
import { memoryOf } from "../e2e/memory.js"
import { Service, waitUntil } from "../e2e/Service.js"
import { hasRedis, RedisServer } from "../Store/redisServer.js"
import { isLong, scale } from "./Chance.js"

let service: Service
afterEach(() => service?.dispose())

const start = async (env: Record<string, string> = {}) => {
  service = new Service({
    OFFLOAD_LLM: "command",
    OFFLOAD_LLM_COMMAND: JSON.stringify(["cat"]),
    OFFLOAD_PERMITS: "6",
    OFFLOAD_RETENTION_SECONDS: "1",
    NODE_OPTIONS: `--max-semi-space-size=1 --import ${new URL("collect.mjs", import.meta.url)}`,
    ...env,
  })
  const folder = join(service.data, "tmp")
  mkdirSync(folder)
  await service.start({ TMPDIR: folder, OFFLOAD_LOG: "json" })
}

/** Jobs, a dozen at a time, each waited for. */
const work = async (count: number) => {
  let left = count
  const one = async () => {
    while (left-- > 0) {
      // A connection of its own: one that is kept would count as a descriptor for a minute.
      const { body } = await service.submit(`job ${left}`, {}, { prefer: "wait=60", connection: "close" })
      if (body.status !== "succeeded") throw new Error(JSON.stringify(body))
    }
  }
  await Promise.all(Array.from({ length: 12 }, one))
  // Their retention ends too.
  await waitUntil(async () => (await service.call("GET", "/jobs?limit=1")).body.jobs.length === 0)
}

/** The children of the service: those that live, and those that nobody has waited for. On Redis it has one of its own. */
const children = () =>
  readdirSync("/proc").flatMap((name) => {
    try {
      const stat = /^\d+$/.test(name) ? readFileSync(`/proc/${name}/stat`, "latin1") : ""
      const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
      return Number(parent) === service.pid
        ? [`${name} ${state} ${readFileSync(`/proc/${name}/cmdline`, "latin1").replaceAll("\0", " ")}`]
        : []
    } catch {
      return []
    }
  })

const descriptors = () =>
  readdirSync(`/proc/${service.pid}/fd`).map((name) => {
    try {
      return readlinkSync(`/proc/${service.pid}/fd/${name}`)
    } catch {
      return "closed"
    }
  })

const look = () => ({
  descriptors: descriptors().length,
  kilobytes: memoryOf(service.pid).now * 1024,
  // Those of attempts, and of the sandboxes that wait for one.
  folders: readdirSync(join(service.data, "tmp")).flatMap((root) => readdirSync(join(service.data, "tmp", root)))
    .length,
  children: children().length,
})

/** The least of some looks: what is needed, and not what lies about for a moment. */
const settled = async () => {
  let least = look()
  for (let n = 0; n < 20; n++) {
    service.signal("SIGUSR2")
    await new Promise((resolve) => setTimeout(resolve, 100))
    const now = look()
    least = {
      descriptors: Math.min(least.descriptors, now.descriptors),
      kilobytes: Math.min(least.kilobytes, now.kilobytes),
      folders: Math.min(least.folders, now.folders),
      children: Math.min(least.children, now.children),
    }
  }
  return least
}

/** Jobs, and what is more after them than before. */
const grow = async (count: number) => {
  // Until then the compiler of Node makes code of what runs often: about a megabyte.
  await work(scale(40, 4000))
  const before = await settled()
  await work(count)
  await waitUntil(
    () => children().length <= before.children,
    () => `there are children: ${children().join(", ")}`,
  )
  // Connections of callers that wait for nothing are closed after some seconds.
  await waitUntil(
    () => look().descriptors <= Math.ceil(before.descriptors * 1.05) + 1,
    () => `there were ${before.descriptors} descriptors, and now: ${descriptors().join(" ")}`,
  )
  const after = await settled()
  console.info(`after ${count} jobs: ${JSON.stringify(before)} became ${JSON.stringify(after)}`)
  // The sandboxes that wait for a further command may end in between.
  expect(after.folders).toBeLessThanOrEqual(before.folders)
  expect(after.children).toBeLessThanOrEqual(before.children)
  expect(children().filter((child) => child.includes(" Z "))).toEqual([])
  // A few hundred jobs cannot tell a leak from the noise of a heap; 10,000 can.
  expect(after.kilobytes).toBeLessThan(before.kilobytes * (isLong ? 1.05 : 1.3))
}

it(
  "the embedded store",
  async () => {
    const records = () => {
      const root = open<string, string>({
        path: join(service.data, "data", "store"),
        noSubdir: false,
        maxDbs: 16,
        encoding: "string",
      })
      const counts = tables.map((table) => [
        table,
        root.openDB<string, string>(table, { encoding: "string" }).getCount(),
      ])
      return root.close().then(() => Object.fromEntries(counts))
    }
    await start()
    await grow(scale(100, 10_000))
    expect(await service.stop()).toBe(0)
    const left = await records()
    expect(left).toMatchObject({ jobs: 0, inputs: 0, events: 0, index: 0, ready: 0, running: 0, timers: 0 })
  },
  scale(240_000, 3_600_000),
)

// The short form has no time for a second store.
describe.skipIf(!hasRedis || !isLong)("Redis", () => {
  it(
    "and its keys",
    async () => {
      const redis = await new RedisServer().start()
      const client = new Redis(redis.url)
      try {
        await start({ REDIS_URL: redis.url, OFFLOAD_REDIS_PREFIX: `{${randomUUID()}}:` })
        await work(500)
        const before = await client.dbsize()
        await grow(10_000)
        await waitUntil(
          async () => (await client.dbsize()) <= Math.ceil(before * 1.05) + 2,
          () => `there were ${before} keys`,
        )
      } finally {
        client.disconnect()
        await redis.dispose()
      }
    },
    scale(240_000, 3_600_000),
  )
})
