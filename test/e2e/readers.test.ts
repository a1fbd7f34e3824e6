/** Readers that take nothing, and those who wait, cost little memory and no time of others. */
import { connect, type Socket } from "node:net"
import { afterAll, afterEach, beforeAll, expect, it } from "vitest"
import { delayOf } from "./liveness.js"
import { memoryOf } from "./memory.js"
import { type Json, Service, standIn, waitUntil } from "./Service.js"

const env = { OFFLOAD_LLM: "command", OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")) }
const idle = new Service(env)
beforeAll(() => idle.start())
afterAll(() => idle.dispose())

let service: Service
const sockets: Array<Socket> = []
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await service.dispose()
})

const start = async (more: Record<string, string> = {}) => {
  service = await new Service({ ...env, ...more }).start()
}

/** Asks and reads nothing. */
const ask = (path: string): Socket => {
  const socket = connect(Number(new URL(service.url).port), "127.0.0.1").pause()
  socket.on("error", () => {})
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
  sockets.push(socket)
  return socket
}

/** A job with a megabyte of output, in many events. */
const large = async (): Promise<string> => {
  const { body } = await service.submit(JSON.stringify({ text: "x".repeat(1000), chunks: 1000, millis: 3000 }))
  return (await service.ended(body.id)).id
}

it.each([
  ["/v1", (id: string) => `/v1/responses/${id.replace("job_", "resp_")}?stream=true`],
  ["/jobs", (id: string) => `/jobs/${id}/events`],
])("200 streams of %s that nobody reads cost little", { timeout: 120_000 }, async (_, path) => {
  await start()
  const id = await large()
  await (await fetch(service.url + path(id))).text()
  const before = memoryOf(service.pid)
  const delay = await delayOf(service, idle, 1000, async () => {
    for (let n = 0; n < 200; n++) ask(path(id))
    for (let n = 0; n < 40; n++) await service.call("GET", "/health/ready")
    for (const socket of sockets.splice(0)) socket.destroy()
  })
  const { peak } = memoryOf(service.pid)
  console.info(`200 unread streams: ${(peak - before.now).toFixed(0)} MB, ${delay.toFixed(0)} ms`)
  expect(peak - before.now).toBeLessThan(250)
  expect(delay).toBeLessThan(2000)
})

it("a stream of /v1 repeats its text whole, however it came", { timeout: 60_000 }, async () => {
  await start()
  const { body } = await service.submit(JSON.stringify({ text: '😀"\\\n'.repeat(2000), chunks: 60, millis: 1500 }))
  const { output } = await service.ended(body.id)
  const url = `${service.url}/v1/responses/${body.id.replace("job_", "resp_")}?stream=true`
  const events = async (more = ""): Promise<ReadonlyArray<Json>> =>
    [...(await (await fetch(url + more)).text()).matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data ?? ""))
  const all = await events()
  const of = (type: string) => all.filter((event) => event.type === `response.${type}`)
  const texts = [
    of("output_text.delta")
      .map(({ delta }) => delta)
      .join(""),
    of("output_text.done")[0].text,
    of("content_part.done")[0].part.text,
    of("output_item.done")[0].item.content[0].text,
    of("completed")[0].response.output[0].content[0].text,
  ]
  for (const text of texts) expect(text === output.text).toBe(true)
  expect(all.map(({ sequence_number }) => sequence_number)).toEqual(all.map((_, n) => n))
  const last = all.length - 3
  expect((await events(`&starting_after=${last - 1}`)).map(({ type }) => type)).toEqual(
    all.slice(last).map(({ type }) => type),
  )
})

it("answers that nobody reads are held up to a bound, then refused", { timeout: 120_000 }, async () => {
  await start({ OFFLOAD_MAX_UNREAD_BYTES: "16000000", OFFLOAD_MAX_BODY_BYTES: "20000000", OFFLOAD_PERMITS: "1" })
  await service.submit(JSON.stringify({ millis: 600_000 }))
  const { body } = await service.submit(JSON.stringify({ text: "x".repeat(6_000_000), millis: 600_000 }))
  const before = memoryOf(service.pid)
  for (let n = 0; n < 100; n++) ask(`/jobs/${body.id}`)
  await waitUntil(async () => (await service.call("GET", `/jobs/${body.id}`)).status === 429)
  const refused = await service.call("GET", `/jobs/${body.id}`)
  expect([refused.body.type, refused.headers.get("retry-after")]).toEqual(["/problems/too-many-unread", "5"])
  // What was asked for is done, and can be found.
  const saved = await service.submit("y".repeat(9_000_000))
  expect([saved.status, saved.body.type]).toEqual([429, "/problems/too-many-unread"])
  expect((await service.call("GET", "/jobs?status=queued")).body.jobs[0].id).toBe(
    saved.headers.get("location")?.slice("/jobs/".length),
  )
  expect((await service.submit("small")).status).toBe(202)
  expect(memoryOf(service.pid).peak - before.now).toBeLessThan(400)
  for (const socket of sockets.splice(0)) socket.destroy()
  await waitUntil(async () => (await service.call("GET", `/jobs/${body.id}`)).status === 200)
})

it("2,000 waits for one job cost no more than asking, and those without a place are answered at once", async () => {
  await start({ OFFLOAD_MAX_STREAMS: "1500" })
  const ended = await service.submit("{}", {}, { prefer: "wait=60" })
  const before = memoryOf(service.pid)
  const ask = async (id: string) => {
    const response = await fetch(`${service.url}/jobs/${id}`, { headers: { prefer: "wait=60" } })
    const { status }: Json = await response.json()
    return { isGranted: response.headers.has("preference-applied"), status }
  }
  const many = (id: string) => Promise.all(Array.from({ length: 2000 }, () => ask(id)))
  const asking = await delayOf(service, idle, Number.POSITIVE_INFINITY, () => many(ended.body.id))
  const waiting = await delayOf(service, idle, asking, async () => {
    // It puts something out twenty times a second, while they wait.
    const { body } = await service.submit(JSON.stringify({ text: "x".repeat(100), chunks: 200, millis: 10_000 }))
    const answers = await many(body.id)
    const granted = answers.filter(({ isGranted }) => isGranted)
    expect(granted.length).toBeLessThanOrEqual(1500)
    expect(granted.length).toBeGreaterThan(500)
    expect(granted.filter(({ status }) => status !== "succeeded")).toEqual([])
  })
  console.info(`2,000 waits: ${waiting.toFixed(0)} ms beside ${asking.toFixed(0)} ms of asking`)
  expect(waiting).toBeLessThan(3 * asking + 1000)
  expect(memoryOf(service.pid).peak - before.now).toBeLessThan(300)
  // All of their places are free again.
  expect((await service.call("GET", `/jobs/${ended.body.id}/events`)).status).toBe(200)
}, 240_000)
