/**
 * `POST /jobs` has a short way and a long one. A `Prefer` that means nothing takes the long one: whatever is sent, both
 * must answer the same.
 */
import { request } from "node:http"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type Json, Service, standIn } from "./Service.js"

let service: Service
beforeAll(async () => {
  service = await new Service({
    OFFLOAD_LLM: "command",
    OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
    OFFLOAD_MAX_BODY_BYTES: "2048",
    OFFLOAD_API_KEYS: JSON.stringify({ alice: { keys: ["alice-has-a-key-of-32-characters"] } }),
  }).start()
})
afterAll(() => service.dispose())

interface Sent {
  readonly body: string | Uint8Array
  readonly headers: Readonly<Record<string, string | undefined>>
}

const send = ({ body, headers }: Sent): Promise<{ status: number; headers: Json; body: Json }> =>
  new Promise((resolve, reject) => {
    const call = request(`${service.url}/jobs`, { method: "POST" }, (response) => {
      let text = ""
      response.setEncoding("utf8").on("data", (chunk) => {
        text += chunk
      })
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: JSON.parse(text) }),
      )
    })
    call.on("error", reject)
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) call.setHeader(name, value)
    call.end(body)
  })

/** What two submissions of the same do not share. */
const own = [
  "id",
  "createdAt",
  "startedAt",
  "deadlineAt",
  "status",
  "attempt",
  "attempts",
  "position",
  "expectedStartAt",
]

const comparable = ({ body, headers, status }: Awaited<ReturnType<typeof send>>) => ({
  status,
  headers: Object.fromEntries(
    Object.entries(headers)
      .filter(([name]) => !["date", "content-length", "retry-after"].includes(name))
      .map(([name, value]) => [name, name === "location" ? String(value).replace(/job_\w+/, "job_") : value]),
  ),
  members: Object.keys(body).filter((name) => !own.includes(name)),
  body: Object.fromEntries(Object.entries(body).filter(([name]) => !own.includes(name))),
})

describe("a submission that waits for nothing", () => {
  const job = JSON.stringify({ prompt: JSON.stringify({ text: "hello" }) })
  const cases: Readonly<Record<string, Partial<Sent> & { readonly status: number }>> = {
    "that is in order": { status: 202 },
    "with every member": {
      status: 202,
      body: JSON.stringify({
        prompt: JSON.stringify({ text: "hello" }),
        model: "m",
        system: "s",
        resource: "llm",
        metadata: { a: "b" },
        timeoutSeconds: 5,
        deadlineSeconds: 60,
        maxCostUsd: 1,
        maxAttempts: 2,
      }),
    },
    "without a body": { status: 400, body: "" },
    "that is no JSON": { status: 400, body: "{" },
    "that is not in UTF-8": { status: 400, body: Uint8Array.of(0x22, 0xff, 0x22) },
    "that is nested deeply": { status: 400, body: "[".repeat(100) },
    "without a prompt": { status: 422, body: "{}" },
    "with an unknown member": { status: 422, body: '{"prompt":"p","promt":"q"}' },
    "for an unknown resource": { status: 422, body: '{"prompt":"p","resource":"nobody"}' },
    "with a webhook that there is no secret for": {
      status: 422,
      body: '{"prompt":"p","webhook":{"url":"https://example.com/"}}',
    },
    "that is too large": { status: 413, body: JSON.stringify({ prompt: "x".repeat(3000) }) },
    "that is too large and of unknown length": {
      status: 413,
      body: JSON.stringify({ prompt: "x".repeat(3000) }),
      headers: { "transfer-encoding": "chunked" },
    },
    "without a Content-Type": { status: 415, headers: { "content-type": undefined } },
    "with a Content-Type of text": { status: 415, headers: { "content-type": "text/plain" } },
    "with an idempotency key that is too long": { status: 400, headers: { "idempotency-key": "x".repeat(300) } },
    "without a key": { status: 401, headers: { authorization: undefined } },
    "with a wrong key": { status: 401, headers: { authorization: "Bearer nobody-has-this-key" } },
  }
  for (const [name, { body = job, headers, status }] of Object.entries(cases)) {
    it(`${name} is answered as one that says what it would prefer`, async () => {
      const sent = {
        body,
        headers: {
          "content-type": "application/json",
          authorization: "Bearer alice-has-a-key-of-32-characters",
          ...headers,
        },
      }
      const short = comparable(await send(sent))
      const long = comparable(await send({ ...sent, headers: { ...sent.headers, prefer: "nothing" } }))
      expect(short).toEqual(long)
      expect(short.status).toBe(status)
    })
  }

  it("is the same job for the same idempotency key, whichever way it goes", async () => {
    const headers = {
      "content-type": "application/json",
      authorization: "Bearer alice-has-a-key-of-32-characters",
      "idempotency-key": "once",
    }
    const first = await send({ body: job, headers })
    const second = await send({ body: job, headers: { ...headers, prefer: "nothing" } })
    const third = await send({ body: job, headers })
    expect([second.body.id, third.body.id]).toEqual([first.body.id, first.body.id])
    const conflict = await send({ body: JSON.stringify({ prompt: "another" }), headers })
    expect([conflict.status, conflict.body.type]).toEqual([422, "/problems/idempotency-conflict"])
  })

  it("whose client goes away is saved all the same, and disturbs nobody", async () => {
    for (let count = 0; count < 20; count++) {
      const call = request(`${service.url}/jobs`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: "Bearer alice-has-a-key-of-32-characters" },
      })
      call.on("error", () => {})
      // In the middle of the body, or right after it.
      if (count % 2 === 0) call.write(job.slice(0, 10))
      else call.end(job)
      await new Promise((resolve) => setTimeout(resolve, count))
      call.destroy()
    }
    const after = await send({
      body: job,
      headers: { "content-type": "application/json", authorization: "Bearer alice-has-a-key-of-32-characters" },
    })
    expect(after.status).toBe(202)
    expect(service.lines.filter(({ logLevel }) => logLevel === "ERROR")).toEqual([])
  })
})
