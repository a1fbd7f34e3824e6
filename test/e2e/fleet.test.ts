/** Three processes on one Redis: one service, whichever of them is asked. */
import { randomUUID } from "node:crypto"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { hasRedis, RedisServer } from "../Store/redisServer.js"
import { type Json, processesWith, Service, standIn, waitUntil } from "./Service.js"

const work = (what: Record<string, unknown>) => JSON.stringify(what)

describe.skipIf(!hasRedis)("a fleet of three", () => {
  const redis = new RedisServer()
  beforeAll(() => redis.start())
  afterAll(() => redis.dispose())

  let nodes: ReadonlyArray<Service> = []
  const start = async (envs: ReadonlyArray<Record<string, string>>): Promise<ReadonlyArray<Service>> => {
    const prefix = `{${randomUUID()}}:`
    nodes = envs.map(
      (env) =>
        new Service({
          OFFLOAD_LLM: "command",
          OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
          REDIS_URL: redis.url,
          OFFLOAD_REDIS_PREFIX: prefix,
          OFFLOAD_DRAIN_SECONDS: "1",
          ...env,
        }),
    )
    await Promise.all(nodes.map((node) => node.start()))
    return nodes
  }
  const three = async () => (await start([{}, {}, {}])) as readonly [Service, Service, Service]
  afterEach(() => Promise.all(nodes.map((node) => node.dispose())))

  const get = async (node: Service, id: string): Promise<Json> => (await node.call("GET", `/jobs/${id}`)).body
  const alive = (ids: ReadonlyArray<string>) => ids.filter((id) => processesWith(`${id}.`).length > 0).length
  const llm = async (node: Service): Promise<Json> => (await node.call("GET", "/resources")).body.resources[0]

  it("has one limit of submissions and of streams for each caller, at whichever of them it asks", async () => {
    const all = await start(
      [0, 1, 2].map(() => ({ OFFLOAD_MAX_SUBMISSIONS_PER_MINUTE: "24", OFFLOAD_MAX_STREAMS: "4" })),
    )
    const at = (n: number): Service => all[n % 3] as Service
    const answers = await Promise.all(
      Array.from({ length: 18 }, (_, n) => at(n).submit(work({ millis: 600_000 }), {}, { prefer: n % 2 ? "a" : "" })),
    )
    const accepted = answers.filter(({ status }) => status === 202)
    expect(accepted.length).toBeGreaterThanOrEqual(6)
    // A quarter of a minute's at once, and what the seconds of the test have brought.
    expect(accepted.length).toBeLessThanOrEqual(12)
    expect(answers.find(({ status }) => status === 429)?.body.type).toBe("/problems/too-many-submissions")

    const id = accepted[0]?.body.id
    const open = async (n: number) => {
      const abort = new AbortController()
      const { status } = await fetch(`${at(n).url}/jobs/${id}/events`, { signal: abort.signal })
      return { status, close: () => abort.abort() }
    }
    const streams = await Promise.all(Array.from({ length: 9 }, (_, n) => open(n)))
    expect(streams.map(({ status }) => status).sort()).toEqual([200, 200, 200, 200, 429, 429, 429, 429, 429])
    // Its places come back, also those of a process that is killed.
    for (const { close } of streams) close()
    await waitUntil(async () => {
      const again = await open(1)
      again.close()
      return again.status === 200
    })
  })

  it("answers the same at each of them, and never runs more than the ceiling of all", async () => {
    const all = await three()
    const ids: Array<string> = []
    for (let n = 0; n < 12; n++) {
      const { body, status } = await (all[n % 3] as Service).submit(work({ text: `job ${n}`, millis: 300 }))
      expect(status).toBe(202)
      ids.push(body.id)
    }
    const last = ids.at(-1) ?? ""
    const places = await Promise.all(all.map(async (node) => (await get(node, last)).position))
    expect(Math.max(...places)).toBeGreaterThan(0)
    let most = 0
    await waitUntil(
      async () => {
        most = Math.max(most, alive(ids))
        return (await get(all[0], last)).status === "succeeded"
      },
      undefined,
      60,
    )
    for (const [n, id] of ids.entries()) {
      const jobs = await Promise.all(all.map((node) => node.ended(id)))
      expect(jobs[0]).toMatchObject({ status: "succeeded", output: { text: `job ${n}` } })
      expect(jobs[1]).toEqual(jobs[0])
      expect(jobs[2]).toEqual(jobs[0])
    }
    expect(most).toBeGreaterThan(0)
    expect(most).toBeLessThanOrEqual(2)
    const lists = await Promise.all(all.map(async (node) => (await node.call("GET", "/jobs")).body))
    expect(lists[0].jobs.map(({ id }: Json) => id)).toEqual(ids.toReversed())
    expect(lists[1]).toEqual(lists[0])
    expect(lists[2]).toEqual(lists[0])
  })

  it("waits, cancels and streams at another one than that which runs the job", async () => {
    const all = await three()
    const { body } = await all[0].submit(work({ text: "line", chunks: 30, millis: 3000 }))
    await waitUntil(async () => (await get(all[1], body.id)).status === "running")
    const streams = await Promise.all(all.map((node) => node.call("GET", `/jobs/${body.id}/events`)))
    expect(streams[0]?.body).toContain("event: done")
    expect(streams[1]?.body).toBe(streams[0]?.body)
    expect(streams[2]?.body).toBe(streams[0]?.body)
    const rest = await all[2].call("GET", `/jobs/${body.id}/events`, undefined, { "last-event-id": "4" })
    expect(streams[0]?.body.endsWith(rest.body.replace("retry: 1000\n\n", ""))).toBe(true)

    // Whichever runs it, two of these three are others.
    for (const node of all) {
      const hanging = (await all[0].submit(work({ text: "long", millis: 600_000, ignoreTerm: true }))).body
      await waitUntil(() => processesWith(`${hanging.id}.1`).length > 0)
      const cancelled = await node.call("POST", `/jobs/${hanging.id}/cancel`, undefined, { prefer: "wait=1" })
      expect(cancelled.status).toBeLessThan(300)
      const ended = await node.ended(hanging.id)
      // `cancelled` says that nothing is left.
      expect(processesWith(`${hanging.id}.`)).toEqual([])
      expect(ended).toMatchObject({ status: "cancelled", attempts: [{ outcome: "cancelled" }] })
    }
    const waited = await all[1].submit(work({ text: "soon", millis: 200 }), {}, { prefer: "wait=30" })
    expect([waited.status, waited.body.output.text]).toEqual([200, "soon"])
  })

  it("has one ceiling, changed live at any of them for all, and the same after a restart", async () => {
    const all = await three()
    const submitted: Array<string> = []
    for (let n = 0; n < 8; n++) submitted.push((await all[0].submit(work({ millis: 600_000 }))).body.id)
    await waitUntil(() => alive(submitted) === 2)
    expect(await llm(all[1])).toMatchObject({ permits: 2, running: 2, queued: 6 })
    expect((await all[2].call("PATCH", "/resources/llm", { permits: 4 })).body).toMatchObject({ permits: 4 })
    await waitUntil(() => alive(submitted) === 4)
    await waitUntil(async () => (await llm(all[0])).permits === 4)
    expect(alive(submitted)).toBe(4)
    await all[1].call("PATCH", "/resources/llm", { permits: 1 })
    await all[0].stop()
    await all[0].start()
    await waitUntil(async () => (await llm(all[0])).permits === 1)
    const running = submitted.filter((id) => processesWith(`${id}.`).length > 0)
    for (const id of running) await all[1].call("POST", `/jobs/${id}/cancel`)
    for (const id of running) await all[0].ended(id)
    await waitUntil(async () => alive(submitted) === 1 && (await llm(all[2])).running === 1)
    for (const id of submitted) await all[2].call("POST", `/jobs/${id}/cancel`)
    for (const id of submitted) expect((await all[1].ended(id)).status).toBe("cancelled")
  })

  it("runs the jobs of one that was killed elsewhere", async () => {
    const all = await start([{}, { OFFLOAD_ROLE: "worker" }, { OFFLOAD_ROLE: "api" }])
    const [, worker, api] = all as readonly [Service, Service, Service]
    // The API alone runs nothing, and the worker answers nothing but its health.
    expect((await worker.submit(work({}))).status).toBe(404)
    expect((await worker.call("GET", "/health/ready")).status).toBe(200)
    expect((await worker.call("GET", "/metrics")).status).toBe(200)
    const ids: Array<string> = []
    for (let n = 0; n < 4; n++) ids.push((await api.submit(work({ text: `${n}`, millis: 4000 }))).body.id)
    await waitUntil(() => alive(ids) === 2)
    await worker.kill()
    const killed = Date.now()
    const jobs = await Promise.all(ids.map((id) => api.ended(id, 60)))
    expect(jobs.map(({ output }) => output.text)).toEqual(["0", "1", "2", "3"])
    const orphans = jobs.filter(({ attempts }) => attempts[0].outcome === "orphaned")
    for (const { attempts } of orphans) {
      expect(attempts).toHaveLength(2)
      // By default seven seconds or so: the lease, until that is seen, and the backoff. The rest is for a busy machine.
      expect(Date.parse(attempts[1].startedAt) - killed).toBeLessThan(30_000)
    }
  })

  it("does not pass the ceiling, nor run a job twice, when one is stopped for longer than its lease", async () => {
    const all = await three()
    const ids: Array<string> = []
    for (let n = 0; n < 4; n++) ids.push((await all[0].submit(work({ text: `job ${n}`, millis: 2500 }))).body.id)
    await waitUntil(() => alive(ids) === 2)
    const stopped = all[0]
    let most = 0
    let watching = true
    const watch = (async () => {
      while (watching) {
        most = Math.max(most, alive(ids))
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    })()
    stopped.signal("SIGSTOP")
    const [one, two] = [all[1], all[2]]
    const jobs = await Promise.all(ids.map((id, n) => (n % 2 === 0 ? one : two).ended(id, 60)))
    stopped.signal("SIGCONT")
    watching = false
    await watch
    expect(jobs.map(({ status }) => status)).toEqual(ids.map(() => "succeeded"))
    expect(most).toBeLessThanOrEqual(2)
    // It finds out, changes nothing, and is one of them again.
    const next = await stopped.submit(work({ text: "again" }), {}, { prefer: "wait=30" })
    expect(next.body.output.text).toBe("again")
    for (const [n, id] of ids.entries()) expect(await get(stopped, id)).toEqual(jobs[n])
  })

  it("interrupts what its watchdog killed while it was held up, and tries it again at no cost", async () => {
    const [node] = (await start([{ OFFLOAD_LEASE_SECONDS: "3" }])) as unknown as readonly [Service]
    const { body } = await node.submit(work({ text: "x", millis: 600_000 }), { maxAttempts: 1 })
    await waitUntil(() => processesWith(`${body.id}.1`).length > 0 && alive([body.id]) === 1)
    await waitUntil(async () => (await get(node, body.id)).output?.text === "x")
    node.signal("SIGSTOP")
    await waitUntil(() => processesWith(`${body.id}.1`).length === 0)
    node.signal("SIGCONT")
    await waitUntil(async () => (await get(node, body.id)).attempt === 2)
    const { attempts, status } = await get(node, body.id)
    expect([status, attempts[0].outcome, attempts[0].cause]).toEqual(["running", "interrupted", null])
    await node.call("POST", `/jobs/${body.id}/cancel`)
    await node.ended(body.id)
  })

  it("loses nothing and ends nothing twice in a rolling restart under load", async () => {
    const all = await three()
    const ids: Array<string> = []
    let most = 0
    let isOver = false
    const load = (async () => {
      for (let n = 0; !isOver; n++) {
        const node = all[n % 3] as Service
        try {
          const { body, status } = await node.submit(work({ text: `job ${n}`, millis: 200 }))
          if (status === 202) ids.push(body.id)
        } catch {
          // It is restarting: nobody was told that this one was accepted.
        }
        most = Math.max(most, alive(ids.slice(-20)))
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    })()
    for (const node of all) {
      await new Promise((resolve) => setTimeout(resolve, 500))
      expect(await node.stop()).toBe(0)
      await node.start()
    }
    isOver = true
    await load
    const jobs = await Promise.all(ids.map((id) => all[0].ended(id, 60)))
    expect(jobs.map(({ status }) => status)).toEqual(ids.map(() => "succeeded"))
    for (const { attempts } of jobs) {
      const outcomes = attempts.map(({ outcome }: Json) => outcome)
      expect(outcomes.filter((outcome: string) => outcome === "succeeded")).toHaveLength(1)
      expect(outcomes).not.toContain("orphaned")
    }
    expect(most).toBeLessThanOrEqual(2)
    expect(ids.length).toBeGreaterThan(10)
  })
})
