import { createConnection } from "node:net"
import { afterEach, describe, expect, it } from "vitest"
import { type Json, Service, standIn, waitUntil } from "./Service.js"

const alice = { authorization: "Bearer alice-key-0123456789" }
const bob = { authorization: "Bearer bob-key-0123456789ab" }

let service: Service
afterEach(() => service.dispose())

const start = (env: Record<string, string>) => {
  service = new Service({
    OFFLOAD_LLM: "command",
    OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
    OFFLOAD_API_KEYS: JSON.stringify({
      alice: { keys: ["alice-key-0123456789"] },
      bob: { keys: ["bob-key-0123456789ab"], admin: true },
    }),
    ...env,
  })
  return service.start()
}

const long = JSON.stringify({ millis: 600_000 })
const short = JSON.stringify({ text: "done" })
const state = async (): Promise<Json> => (await service.call("GET", "/resources", undefined, bob)).body.resources[0]

describe("a caller", () => {
  it("with its queue full is refused, and others are not", async () => {
    await start({ OFFLOAD_MAX_QUEUED_PER_CALLER: "3", OFFLOAD_PERMITS: "1" })
    await service.submit(long, {}, bob)
    await waitUntil(async () => (await state()).running === 1)
    for (let n = 0; n < 3; n++) expect((await service.submit(long, {}, alice)).status).toBe(202)
    const refused = await service.submit(long, {}, alice)
    expect([refused.status, refused.body.type]).toEqual([429, "/problems/queue-full"])
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0)
    expect(refused.headers.get("ratelimit-policy")).toBe('"queue";q=3')
    expect((await service.submit(long, {}, bob)).status).toBe(202)
    expect((await state()).queued).toBe(4)
  })

  it("runs no more jobs at once than it may, and leaves the other permits to others", async () => {
    await start({ OFFLOAD_MAX_RUNNING_PER_CALLER: "2", OFFLOAD_PERMITS: "4" })
    for (let n = 0; n < 6; n++) await service.submit(long, {}, alice)
    await waitUntil(async () => (await state()).running === 2)
    const mine = await service.submit(short, {}, { ...bob, prefer: "wait=60" })
    expect(mine.body.status).toBe("succeeded")
    // The permit comes back a moment after the end is told.
    await waitUntil(async () => (await state()).running === 2)
    expect((await state()).queued).toBe(4)
    const { jobs } = (await service.call("GET", "/jobs?status=running", undefined, alice)).body
    await service.call("POST", `/jobs/${jobs[0].id}/cancel`, undefined, alice)
    await service.ended(jobs[0].id, 60, alice)
    await waitUntil(async () => (await state()).queued === 3 && (await state()).running === 2)
  })

  it("with a hundred jobs does not starve another's one", async () => {
    await start({ OFFLOAD_PERMITS: "2" })
    const many = Array.from({ length: 100 }, () => service.submit(JSON.stringify({ millis: 3000 }), {}, alice))
    await Promise.all(many)
    const { body } = await service.submit(short, {}, { ...bob, prefer: "wait=60" })
    expect(body.status).toBe("succeeded")
    expect((await state()).queued).toBeGreaterThan(60)
  })

  it("that submits too fast is refused, is told when to come again, and may then", async () => {
    await start({ OFFLOAD_MAX_SUBMISSIONS_PER_MINUTE: "60" })
    const began = Date.now()
    const answers = await Promise.all(Array.from({ length: 60 }, () => service.submit(short, {}, alice)))
    const seconds = (Date.now() - began) / 1000
    const refused = answers.filter(({ status }) => status === 429)
    const accepted = answers.filter(({ status }) => status === 202)
    expect(accepted.length).toBeGreaterThanOrEqual(15)
    expect(accepted.length).toBeLessThanOrEqual(16 + seconds)
    expect(refused[0]?.body.type).toBe("/problems/too-many-submissions")
    expect(refused[0]?.headers.get("ratelimit-policy")).toBe('"submissions";q=15;w=15')
    expect(refused[0]?.headers.get("ratelimit")).toMatch(/^"submissions";r=0;t=\d+$/)
    expect(accepted[0]?.headers.get("ratelimit")).toMatch(/^"submissions";r=\d+;t=\d+$/)
    expect((await service.submit(short, {}, bob)).status).toBe(202)
    const { jobs } = (await service.call("GET", "/jobs?limit=100", undefined, alice)).body
    expect(jobs).toHaveLength(accepted.length)
    const after = Number(refused[0]?.headers.get("retry-after"))
    expect(after).toBe(1)
    await waitUntil(async () => (await service.submit(short, {}, alice)).status === 202)
  })
})

describe("a reader of events", () => {
  it("has its own limit beside that of all", async () => {
    await start({ OFFLOAD_MAX_STREAMS_PER_CALLER: "2", OFFLOAD_MAX_STREAMS: "3" })
    const [mine, theirs] = [await service.submit(long, {}, alice), await service.submit(long, {}, bob)]
    const open = async (id: string, headers: Record<string, string>) => {
      const abort = new AbortController()
      const response = await fetch(`${service.url}/jobs/${id}/events`, { headers, signal: abort.signal })
      return { status: response.status, close: () => abort.abort() }
    }
    const streams = [await open(mine.body.id, alice), await open(mine.body.id, alice)]
    expect(streams.map(({ status }) => status)).toEqual([200, 200])
    expect((await open(mine.body.id, alice)).status).toBe(429)
    streams.push(await open(theirs.body.id, bob))
    expect(streams.at(-1)?.status).toBe(200)
    expect((await open(theirs.body.id, bob)).status).toBe(429)
    for (const { close } of streams) close()
    await waitUntil(async () => {
      const again = await open(mine.body.id, alice)
      again.close()
      return again.status === 200
    })
  })

  it("that stands still slows nobody, and is closed", async () => {
    await start({ OFFLOAD_IDLE_SECONDS: "8", OFFLOAD_MAX_STREAMS: "2", OFFLOAD_MAX_OUTPUT_BYTES: "67108864" })
    const flood = JSON.stringify({ text: "x".repeat(100_000), chunks: 300, millis: 6000 })
    const { body } = await service.submit(flood, {}, alice)

    const socket = createConnection(Number(new URL(service.url).port), "127.0.0.1")
    let closed = false
    socket.on("close", () => {
      closed = true
    })
    socket.on("error", () => {})
    socket.pause()
    socket.write(
      `GET /jobs/${body.id}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${alice.authorization}\r\n\r\n`,
    )

    const reader = await fetch(`${service.url}/jobs/${body.id}/events`, { headers: alice })
    const text = await reader.text()
    expect(text).toContain("event: done")
    expect(text.length).toBeGreaterThan(30_000_000)
    expect((await service.ended(body.id, 60, alice)).status).toBe("succeeded")

    // Its place is free again: two more streams find one beside each other.
    const open = () => fetch(`${service.url}/jobs/${body.id}/events`, { headers: { ...alice, "last-event-id": "2" } })
    await waitUntil(async () => {
      const both = [await open(), await open()]
      await Promise.all(both.map((each) => each.body?.cancel()))
      return both.every(({ status }) => status === 200)
    })
    socket.resume()
    await waitUntil(() => closed)
  })
})
