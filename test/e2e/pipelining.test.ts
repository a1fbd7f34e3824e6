/** One request in work on a connection: a client that sends many at once has its answers in order, and no more memory. */
import { connect, type Socket } from "node:net"
import { afterAll, beforeAll, expect, it } from "vitest"
import { delayOf } from "./liveness.js"
import { memoryOf } from "./memory.js"
import { Service, standIn, waitUntil } from "./Service.js"

const env = { OFFLOAD_LLM: "command", OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")) }
const service = new Service(env)
const idle = new Service(env)
beforeAll(() => Promise.all([service.start(), idle.start()]))
afterAll(() => Promise.all([service.dispose(), idle.dispose()]))

const open = (): Socket => {
  const socket = connect(Number(new URL(service.url).port), "127.0.0.1")
  socket.on("error", () => {})
  return socket
}

const request = (method: string, path: string, body?: string): string =>
  body === undefined
    ? `${method} ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`
    : `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`

/** A job with a megabyte of output. */
const large = async (): Promise<string> => {
  const { body } = await service.submit(JSON.stringify({ text: "x".repeat(1000), chunks: 1000 }))
  return (await service.ended(body.id)).id
}

it("answers all of them in their order, with bodies between them", { timeout: 120_000 }, async () => {
  const socket = open()
  let text = ""
  socket.on("data", (chunk) => {
    text += chunk
  })
  const prompt = "y".repeat(100_000)
  for (let n = 0; n < 200; n++) {
    socket.write(n % 20 === 0 ? request("POST", "/jobs", JSON.stringify({ prompt: [n, prompt] })) : "")
    socket.write(request("GET", `/jobs/none-${n}?`))
    socket.write(request("POST", "/jobs", JSON.stringify({ [`member-${n}`]: 0, prompt: "x" })))
  }
  const told = () => [...text.matchAll(/\/(member-\d+)"/g)].map(([, name]) => name)
  await waitUntil(() => told().length === 200)
  expect(told()).toEqual(Array.from({ length: 200 }, (_, n) => `member-${n}`))
  expect(text.match(/HTTP\/1\.1 404/g)).toHaveLength(200)
  socket.destroy()
})

it("holds one answer for a client that reads nothing", { timeout: 120_000 }, async () => {
  const id = await large()
  await service.call("GET", `/jobs/${id}`)
  const before = memoryOf(service.pid)
  const delay = await delayOf(service, idle, 500, async () => {
    const socket = open().pause()
    for (let n = 0; n < 400; n++) socket.write(request("GET", `/jobs/${id}`))
    for (let n = 0; n < 20; n++) expect((await service.call("GET", "/health/ready")).status).toBe(200)
    socket.destroy()
  })
  expect(memoryOf(service.pid).peak - before.now).toBeLessThan(200)
  expect(delay).toBeLessThan(1000)
})

it("does the work of one at a time", { timeout: 180_000 }, async () => {
  const { body } = await service.submit(JSON.stringify({ millis: 600_000 }))
  const before = memoryOf(service.pid)
  const sockets = Array.from({ length: 10 }, () => {
    const socket = open()
    socket.write(request("GET", `/jobs/${body.id}/events`).repeat(1000))
    return socket
  })
  const streams = async () =>
    Number(/^offload_event_streams (\d+)$/m.exec(String((await service.call("GET", "/metrics")).body))?.[1])
  await waitUntil(async () => (await streams()) === 10)
  for (let n = 0; n < 20; n++) await service.call("GET", "/health/live")
  expect(await streams()).toBe(10)
  expect(memoryOf(service.pid).peak - before.now).toBeLessThan(200)
  for (const socket of sockets) socket.destroy()
  // A connection that is not read is found to be closed when a heartbeat is written.
  await waitUntil(async () => (await streams()) === 0, undefined, 90)
})

it("is over for what waits when the connection is", { timeout: 120_000 }, async () => {
  for (let n = 0; n < 50; n++) {
    const socket = open()
    await new Promise((resolve) => socket.write(request("GET", "/docs/swagger-ui-bundle.js").repeat(500), resolve))
    socket.destroy()
  }
  const socket = open()
  let text = ""
  socket.on("data", (chunk) => {
    text += chunk
  })
  socket.write(request("GET", "/health/live").repeat(1000))
  await waitUntil(() => text.match(/HTTP\/1\.1 200/g)?.length === 1000)
  socket.destroy()
})

it("is not told in the middle of an answer that a request behind it is late", { timeout: 60_000 }, async () => {
  const { body } = await service.submit(JSON.stringify({ millis: 16_000 }))
  const socket = open()
  let text = ""
  socket.on("data", (chunk) => {
    text += chunk
  })
  const ask = request("GET", `/v1/responses/${body.id.replace("job_", "resp_")}?stream=true`)
  // More than Node reads at once: the last one that it has read is cut.
  socket.write(ask + request("GET", "/health/live").repeat(1500))
  await waitUntil(() => text.match(/\{"status":"live"\}/g)?.length === 1500, undefined, 50)
  expect(text).toContain("response.completed")
  expect(text).not.toContain("HTTP/1.1 408")
  socket.destroy()
})
