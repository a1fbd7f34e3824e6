/** What is held up, and what is done to it. */
import { spawnSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import { Redis } from "ioredis"
import { type Chance, sleep } from "../chaos/Chance.js"
import { Fleet } from "../chaos/Fleet.js"
import type { Lives } from "../chaos/Lives.js"
import { type Fault as LineFault, Proxy } from "../chaos/Proxy.js"
import { Service } from "../e2e/Service.js"
import { RedisServer } from "../Store/redisServer.js"
import { apiKeys } from "./Caller.js"

export interface Subject {
  readonly nodes: ReadonlyArray<Service>
  /** Whom the callers ask. */
  readonly front: Pick<Service, "call">
  /** By name; each is over when its promise resolves. What recovers by itself is waited for by who makes it. */
  readonly faults: Readonly<Record<string, () => Promise<void>>>
  readonly dispose: () => Promise<void>
}

const settings = (lives: Lives): Record<string, string> => ({
  ...lives.env,
  OFFLOAD_API_KEYS: apiKeys,
  OFFLOAD_DRAIN_SECONDS: "2",
  OFFLOAD_LEASE_SECONDS: "3",
})

const run = (command: string, ...args: ReadonlyArray<string>): boolean => spawnSync(command, args).status === 0

/** The embedded store, on a small disk of its own where one can be mounted. */
export const embedded = async (lives: Lives, chance: Chance): Promise<Subject> => {
  const service = new Service(settings(lives))
  const disk = join(service.data, "disk")
  mkdirSync(disk)
  const isMounted = run("mount", "-t", "tmpfs", "-o", "size=256m,mode=700", "tmpfs", disk)
  if (!isMounted) console.info("soak: no small disk can be mounted here, so that none becomes full")
  const env = { OFFLOAD_DATA: join(disk, "data") }
  await service.start(env)
  const taken = join(disk, "taken")
  const fullDisk = async (): Promise<void> => {
    run("dd", "if=/dev/zero", `of=${taken}`, "bs=65536")
    await sleep(chance.between(1000, 5000))
    const isKilled = chance.is(0.3)
    if (isKilled) await service.kill()
    rmSync(taken, { force: true })
    if (isKilled) await service.start(env)
  }
  return {
    nodes: [service],
    front: service,
    faults: {
      kill: async () => {
        await service.kill()
        await service.start(env)
      },
      stop: async () => {
        await service.stop()
        await service.start(env)
      },
      freeze: () => frozen(service, chance.between(500, 4000)),
      ...(isMounted ? { "full disk": fullDisk } : {}),
    },
    dispose: async () => {
      await service.kill()
      if (isMounted) run("umount", "--lazy", disk)
      await service.dispose()
    },
  }
}

const frozen = async (process: Pick<Service, "signal">, millis: number): Promise<void> => {
  process.signal("SIGSTOP")
  await sleep(millis)
  process.signal("SIGCONT")
}

/** Two processes on one Redis, behind a line that can be made bad. */
export const fleet = async (lives: Lives, chance: Chance): Promise<Subject> => {
  const redis = await new RedisServer().start()
  const proxy = await new Proxy(Number(new URL(redis.url).port)).start()
  const admin = new Redis(redis.url, { maxRetriesPerRequest: null })
  admin.on("error", () => {})
  const nodes = await new Fleet(2, {
    ...settings(lives),
    REDIS_URL: proxy.url,
    OFFLOAD_REDIS_PREFIX: `{${randomUUID()}}:`,
  }).start()
  const without = async (fault: (node: Service) => Promise<void>): Promise<void> => {
    const node = chance.one(nodes.nodes as [Service, ...Array<Service>])
    nodes.away.add(node)
    await fault(node)
    nodes.away.delete(node)
  }
  const line = (fault: LineFault) => async (): Promise<void> => {
    proxy.millis = chance.one([50, 300, 700])
    proxy.fault = fault
    await sleep(chance.between(500, 4000))
    proxy.fault = "fine"
  }
  return {
    nodes: nodes.nodes,
    front: nodes,
    faults: {
      "kill a node": () =>
        without(async (node) => {
          await node.kill()
          await sleep(chance.between(0, 4000))
          await node.start()
        }),
      "stop a node": () =>
        without(async (node) => {
          await node.stop()
          await node.start()
        }),
      // Also for longer than the lease.
      "freeze a node": () => without((node) => frozen(node, chance.between(500, 6000))),
      "kill Redis": async () => {
        await redis.kill()
        await sleep(chance.between(0, 4000))
        await redis.start()
      },
      "freeze Redis": () => frozen(redis, chance.between(500, 5000)),
      "Redis is full": async () => {
        await admin.config("SET", "maxmemory", "1")
        await sleep(chance.between(1000, 5000))
        await admin.config("SET", "maxmemory", "0")
      },
      "scripts are forgotten": async () => void (await admin.script("FLUSH")),
      "connections are closed": async () => void (await admin.client("KILL", "SKIPME", "yes")),
      "a slow line": line("slow"),
      "a line that is cut": line("cut"),
      "a silent line": line("silent"),
      "lost answers": line("deaf"),
    },
    dispose: async () => {
      admin.disconnect()
      await nodes.dispose()
      proxy.stop()
      await redis.dispose()
    },
  }
}
