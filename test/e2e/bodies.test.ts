/** No body, query or header holds the event loop up, however much is wrong with it. */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { delayOf } from "./liveness.js"
import { type Json, Service } from "./Service.js"

const service = new Service()
const idle = new Service()
let job = ""
beforeAll(async () => {
  await Promise.all([service.start(), idle.start()])
  job = (await service.submit("[no")).body.id
})
afterAll(() => Promise.all([service.dispose(), idle.dispose()]))

/** The largest body that the service takes. */
const largest = 1_048_576

/** As many copies of a piece as there is room for between a beginning and an end. */
const filled = (begin: string, piece: (n: number) => string, end: string): string => {
  const pieces: Array<string> = []
  let size = begin.length + end.length
  for (let n = 0; size < largest; n++) {
    pieces.push(piece(n))
    size += pieces[n]?.length ?? 0
  }
  return begin + pieces.slice(0, -1).join("") + end
}

const members = (begin: string, end: string) => filled(begin, (n) => `,"k${n}":0`, end)

const bodies: Record<string, string | Uint8Array> = {
  "unknown members": members('{"prompt":"x","input":"x"', "}"),
  "labels that are no texts": members('{"prompt":"x","input":"x","metadata":{"a":0', "}}"),
  "an array for a prompt": filled('{"prompt":[0', () => ",0", "]}"),
  "messages that are none": filled('{"input":[{}', () => ",{}", "]}"),
  "parts that are none": filled('{"input":[{"role":"user","content":[0', () => ',{"type":"x"}', "]}]}"),
  "objects in a webhook": filled('{"prompt":"x","webhook":[{}', () => ',{"url":1}', "]}"),
  "arrays in arrays": filled('{"prompt":', () => "[", ""),
  "objects in objects": filled('{"prompt":1', () => ',"a":{"b":1}', "}"),
  "one member many times": filled('{"prompt":"x"', () => ',"permits":0', "}"),
  "a long name": filled('{"prompt":"x","', () => "k", '":0}'),
  "a long text for a model": filled('{"prompt":"x","input":"x","model":"', () => "m/", '"}'),
  "a long URL": filled('{"prompt":"x","webhook":{"url":"https://', () => "a.", '"}}'),
  "a long system prompt": filled('{"prompt":"x","instructions":"x","system":"', () => "y", '"}'),
  "escapes without an end": filled('{"prompt":"', () => "\\\\", ""),
  "no UTF-8": new Uint8Array(largest).fill(0xff),
  "blanks alone": filled("", () => " ", ""),
  "numbers without a value":
    '{"prompt":"x","timeoutSeconds":1e400,"maxCostUsd":-1e400,"maxAttempts":1e400,"permits":1e400}',
}

const calls = () =>
  [
    ["POST", "/jobs"],
    ["POST", "/v1/responses"],
    ["PATCH", "/resources/llm"],
    ["POST", `/jobs/${job}/cancel`],
    ["POST", `/jobs/${job}/retry`],
    ["POST", `/v1/responses/${job.replace("job_", "resp_")}/cancel`],
  ] as const

const headers = { "content-type": "application/json" }

const send = async (method: string, path: string, body: string | Uint8Array) => {
  const response = await fetch(service.url + path, { method, headers, body })
  return { status: response.status, text: await response.text(), path }
}

/** A status of 413 is of a body that is larger than it should be. */
const refusals = [400, 422]

describe("a body of the largest size", () => {
  it.each(Object.entries(bodies))("with %s is refused at once", { timeout: 120_000 }, async (_, body) => {
    const delay = await delayOf(service, idle, 300, async () => {
      for (const [method, path] of calls()) {
        const answer = await send(method, path, body)
        expect(answer.status, answer.path).toBeLessThan(500)
        if (!/cancel|retry/.test(path)) expect(refusals, `${path}: ${answer.text}`).toContain(answer.status)
        expect(answer.text.length).toBeLessThan(10_000)
      }
    })
    expect(delay).toBeLessThan(1000)
  })
})

describe("a refusal", () => {
  const errorsOf = async (body: unknown): Promise<Json> => (await service.call("POST", "/jobs", body)).body.errors

  it("names the first twenty members that are wrong", async () => {
    const wrong = Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`k${n}`, 0]))
    const errors = await errorsOf({ prompt: "x", ...wrong })
    expect(errors.map(({ pointer }: Json) => pointer)).toEqual(Array.from({ length: 20 }, (_, n) => `/k${n}`))
  })

  it("says once of a member what it takes", async () => {
    expect(await errorsOf({ prompt: "x", timeoutSeconds: 1e9, maxCostUsd: 0 })).toEqual([
      { pointer: "/timeoutSeconds", detail: "Expected a number of seconds from 0.1 to 86400" },
      { pointer: "/maxCostUsd", detail: "Expected a number above 0, at most 1000000" },
    ])
  })

  it("names an object with more members than any call knows", async () => {
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`k${n}`, "x"]))
    expect(await errorsOf({ prompt: "x", metadata: many })).toEqual([
      { pointer: "/metadata", detail: "at most 64 members" },
    ])
  })

  it("says that a body has too many values", async () => {
    const { body, status } = await service.call("POST", "/v1/responses", {
      input: Array.from({ length: 9999 }, () => 0),
    })
    expect([status, body.error.message]).toEqual([400, "The body has more than 10000 values."])
  })
})

describe("a request that is long elsewhere", () => {
  const query = (piece: (n: number) => string) => Array.from({ length: 1200 }, (_, n) => piece(n)).join("&")

  it.each([
    ["unknown parameters", `/jobs?${query((n) => `k${n}=0`)}`, 400],
    ["one parameter many times", `/jobs?${query(() => "status=x")}`, 400],
    ["a long cursor", `/jobs?cursor=${"%41".repeat(5000)}`, 400],
    ["unknown parameters of /v1", `/v1/responses/resp_x?${query((n) => `k${n}=0`)}`, 400],
    ["a long path", `/jobs/${"a".repeat(15_000)}`, 404],
    ["a path of many parts", `/jobs${"/a".repeat(7000)}`, 404],
  ])("%s", { timeout: 60_000 }, async (_, path, status) => {
    const delay = await delayOf(service, idle, 100, async () => {
      for (let n = 0; n < 5; n++) expect((await service.call("GET", path)).status).toBe(status)
    })
    expect(delay).toBeLessThan(500)
  })

  it.each([
    ["content-type", `application/${"+json".repeat(2500)}x`],
    ["content-type", `application/json${" ".repeat(12_000)}x`],
    ["prefer", "wait=x,".repeat(1800)],
    ["idempotency-key", "k".repeat(14_000)],
    ["last-event-id", "9".repeat(14_000)],
    ["authorization", `Bearer${" ".repeat(12_000)}é`],
    ["if-none-match", '"a",'.repeat(3000)],
    ["accept-encoding", "gzip;q=0,".repeat(1500)],
  ])("the header %s", { timeout: 60_000 }, async (name, value) => {
    const delay = await delayOf(service, idle, 100, async () => {
      for (const path of ["/jobs", `/jobs/${job}/events`, "/docs/start.js"]) {
        const method = path === "/jobs" ? "POST" : "GET"
        const body = method === "POST" ? { body: '{"prompt":1}' } : {}
        const sent = { ...headers, [name]: Buffer.from(value).toString("latin1") }
        const response = await fetch(service.url + path, { method, headers: sent, ...body })
        await response.body?.cancel()
        expect(response.status, path).toBeLessThan(500)
      }
    })
    expect(delay).toBeLessThan(500)
  })
})
