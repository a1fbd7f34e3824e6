/** The service beside a Redis whose connections, role and rights change while nothing happens: it works on by itself. */
import { Redis } from "ioredis"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { Proxy } from "../chaos/Proxy.js"
import { isInstalled, RedisServer } from "../Store/redisServer.js"
import { Service, waitUntil } from "./Service.js"

const newServer = () => new RedisServer(["--repl-diskless-sync-delay", "0"])

const portOf = ({ url }: RedisServer) => Number(new URL(url).port)

describe.skipIf(!isInstalled)("the service, idle on a Redis", () => {
  let redis: RedisServer
  let way: Proxy
  let admin: Redis
  let service: Service

  const start = async (user = "") => {
    redis = await newServer().start()
    way = await new Proxy(portOf(redis)).start()
    admin = new Redis(redis.url)
    admin.on("error", () => {})
    await admin.call("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all")
    service = await new Service({
      OFFLOAD_LLM: "command",
      OFFLOAD_LLM_COMMAND: JSON.stringify(["/bin/cat"]),
      REDIS_URL: way.url.replace("//", `//${user}`),
    }).start()
  }
  beforeEach(() => {
    ended.length = 0
  })
  const ended: Array<() => Promise<void>> = []
  afterEach(async () => {
    admin.disconnect()
    await service.dispose()
    way.stop()
    await redis.dispose()
    for (const end of ended) await end()
  })

  const ready = async () => (await service.call("GET", "/health/ready")).status
  /** Submits until a job is taken on, and waits for its end. */
  const works = async () => {
    let id = ""
    await waitUntil(async () => {
      const { body, status } = await service.submit("x")
      if (status === 202) id = body.id
      return status === 202
    })
    expect(await service.ended(id)).toMatchObject({ status: "succeeded" })
  }
  /** What an idle worker does and not how long that takes is what is tested: so that nothing but time may pass. */
  const idle = async (millis: number) => {
    const until = performance.now() + millis
    await waitUntil(() => performance.now() > until)
  }
  const blocked = async (client = admin) => {
    const lines = String(await client.client("LIST")).split("\n")
    return lines.filter((line) => line.includes("cmd=bzpopmin")).map((line) => /\bid=(\d+)/.exec(line)?.[1] ?? "")
  }

  it("goes on after an error of the wait, however long nothing comes", async () => {
    await start()
    await works()
    await waitUntil(async () => (await blocked()).length === 1)
    const [id = ""] = await blocked()
    expect(await admin.client("UNBLOCK", id, "ERROR")).toBe(1)
    // Longer than any time limit of a command.
    await idle(7000)
    await works()
  })

  it("goes on after writes were refused for a while (NOREPLICAS)", async () => {
    await start()
    await works()
    await admin.config("SET", "min-replicas-to-write", "1")
    await waitUntil(async () => (await ready()) === 503)
    await admin.config("SET", "min-replicas-to-write", "0")
    await waitUntil(async () => (await ready()) === 200)
    await idle(7000)
    await works()
  })

  it("goes on after Redis was away for longer than a wait", async () => {
    await start()
    await works()
    await redis.kill()
    await waitUntil(async () => (await ready()) === 503)
    await idle(6000)
    await redis.start()
    await waitUntil(async () => (await ready()) === 200)
    await works()
  })

  it("goes on after its connections were killed and its scripts forgotten", async () => {
    await start()
    await works()
    for (const type of ["normal", "pubsub"]) {
      await admin.call("CLIENT", "KILL", "TYPE", type, "SKIPME", "yes")
      await works()
    }
    await admin.script("FLUSH")
    await works()
    await waitUntil(async () => {
      const [, count] = (await admin.pubsub("NUMSUB", "{offload}:events")) as ReadonlyArray<unknown>
      return count === 1
    })
  })

  it("makes connections again that are open and answer nothing", async () => {
    await start()
    await works()
    way.hang()
    await works()
    await waitUntil(async () => (await ready()) === 200)
  })

  it("finds the new primary where open connections lead to a replica", async () => {
    await start()
    await works()
    const other = await newServer().start()
    const client = new Redis(other.url)
    ended.push(async () => {
      client.disconnect()
      await other.dispose()
    })
    await client.replicaof("127.0.0.1", portOf(redis))
    await waitUntil(async () => (await client.info("replication")).includes("master_link_status:up"))
    await client.replicaof("NO", "ONE")
    way.port = portOf(other)
    await admin.replicaof("127.0.0.1", portOf(other))
    await works()
    // The one that only listens is there too.
    await waitUntil(async () => {
      const [, count] = (await client.pubsub("NUMSUB", "{offload}:events")) as ReadonlyArray<unknown>
      return count === 1 && (await blocked(client)).length === 1
    })
    await waitUntil(async () => (await ready()) === 200)
  })

  it("is not ready while its worker can take nothing, and says why", async () => {
    await start("app:secret@")
    await works()
    await admin.call("ACL", "SETUSER", "app", "-bzpopmin")
    let detail = ""
    await waitUntil(async () => {
      const { body, status } = await service.call("GET", "/health/ready")
      detail = body.detail
      return status === 503
    })
    expect(detail).toContain("Redis has answered no look for work on 'llm'")
    await admin.call("ACL", "SETUSER", "app", "+bzpopmin")
    await waitUntil(async () => (await ready()) === 200)
    await works()
  })
})
