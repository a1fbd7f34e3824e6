import { writeFileSync } from "node:fs"
import { createConnection } from "node:net"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { processesWith, Service, standIn, waitUntil } from "./Service.js"

const service = new Service({
  OFFLOAD_LLM: "command",
  OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
  OFFLOAD_MAX_BODY_BYTES: "20000",
  OFFLOAD_MAX_QUEUED: "30",
})
beforeAll(() => service.start())
afterAll(() => service.dispose())

const work = (what: Record<string, unknown>) => JSON.stringify(what)

describe("a job", () => {
  it("is answered 202 with its Location, and runs", async () => {
    const { body, headers, status } = await service.submit(work({ text: "hello" }), { metadata: { user: "1" } })
    expect(status).toBe(202)
    expect(headers.get("location")).toBe(`/jobs/${body.id}`)
    expect(Number(headers.get("retry-after"))).toBeGreaterThan(0)
    expect(body).toMatchObject({
      status: "queued",
      resource: "llm",
      attempt: 0,
      maxAttempts: 3,
      metadata: { user: "1" },
    })
    const ended = await service.ended(body.id)
    expect(ended).toMatchObject({
      status: "succeeded",
      attempt: 1,
      output: { text: "hello", truncated: false },
      error: null,
      attempts: [{ attempt: 1, adapter: "command", outcome: "succeeded", cause: null }],
    })
    expect(ended.position).toBeUndefined()
    expect(Date.parse(ended.finishedAt)).toBeGreaterThanOrEqual(Date.parse(ended.startedAt))
  })

  it("is answered 200 with its end where the caller waits for it", async () => {
    const { body, headers, status } = await service.submit(work({ text: "hi" }), {}, { prefer: "wait=60" })
    expect(status).toBe(200)
    expect(headers.get("preference-applied")).toBe("wait=60")
    expect(body.output.text).toBe("hi")
    const until = join(service.data, "waited")
    const slow = await service.submit(work({ until }), {}, { prefer: "respond-async, wait=1" })
    expect(slow.status).toBe(202)
    await waitUntil(async () => (await service.call("GET", `/jobs/${slow.body.id}`)).body.status === "running")
    setTimeout(() => writeFileSync(until, ""), 200)
    const waited = await service.call("GET", `/jobs/${slow.body.id}`, undefined, { prefer: "wait=60" })
    expect(waited.body.status).toBe("succeeded")
  })

  it("fails with the error that its command had, and keeps what was put out", async () => {
    const prompt = work({ text: "half", exit: 3, stderr: "out of luck" })
    const { body } = await service.submit(prompt, { maxAttempts: 2 }, { prefer: "wait=60" })
    expect(body).toMatchObject({
      status: "failed",
      output: { text: "half" },
      error: { tag: "LlmExit", exitCode: 3, stderr: "out of luck", retryable: true },
    })
    expect(body.attempts.map((attempt: { outcome: string }) => attempt.outcome)).toEqual(["failed", "failed"])
    const page = await service.call("GET", `/problems/${body.error.tag}`)
    expect(page.status).toBe(200)
  })

  it("times out", async () => {
    const { body } = await service.submit(
      work({ millis: 600_000 }),
      { timeoutSeconds: 0.5, maxAttempts: 1 },
      { prefer: "wait=60" },
    )
    expect(body.error).toMatchObject({ tag: "LlmTimeout" })
    await waitUntil(() => processesWith(`${body.id}.1`).length === 0)
  })

  it("expires in the queue", async () => {
    const busy = await Promise.all([1, 2].map(() => service.submit(work({ millis: 600_000 }))))
    const { body } = await service.submit(work({}), { deadlineSeconds: 0.5 }, { prefer: "wait=60" })
    expect(body).toMatchObject({ status: "failed", attempt: 0, error: { tag: "Expired" } })
    await Promise.all(busy.map(({ body: { id } }) => service.call("POST", `/jobs/${id}/cancel`)))
    await Promise.all(busy.map(({ body: { id } }) => service.ended(id)))
  })

  it("is cancelled only when its processes are gone, also where they ignore SIGTERM", async () => {
    const { body } = await service.submit(work({ text: "busy", millis: 600_000, ignoreTerm: true }))
    await waitUntil(async () => (await service.call("GET", `/jobs/${body.id}`)).body.output?.text === "busy")
    expect(processesWith(`${body.id}.1`).length).toBeGreaterThan(0)
    const asked = await service.call("POST", `/jobs/${body.id}/cancel`)
    expect(asked.status).toBe(202)
    expect(asked.body).toMatchObject({ status: "running", cancelRequestedAt: expect.any(String) })
    const ended = await service.ended(body.id)
    expect(processesWith(`${body.id}.1`)).toEqual([])
    expect(ended).toMatchObject({ status: "cancelled", attempts: [{ outcome: "cancelled" }] })
    const again = await service.call("POST", `/jobs/${body.id}/cancel`)
    expect(again.status).toBe(200)
    expect(again.body).toEqual(ended)
  })

  it("shows its place while it waits, and is cancelled at once", async () => {
    const busy = await Promise.all([1, 2].map(() => service.submit(work({ millis: 600_000 }))))
    await waitUntil(async () => (await service.call("GET", "/resources")).body.resources[0].running === 2)
    const waiting = [await service.submit(work({})), await service.submit(work({}))]
    const positions = await Promise.all(
      waiting.map(async ({ body: { id } }) => (await service.call("GET", `/jobs/${id}`)).body.position),
    )
    expect(positions).toEqual([1, 2])
    const cancelled = await service.call("POST", `/jobs/${waiting[0]?.body.id}/cancel`)
    expect(cancelled.status).toBe(200)
    expect(cancelled.body).toMatchObject({ status: "cancelled", attempt: 0 })
    const { status } = await service.call("DELETE", `/jobs/${busy[0]?.body.id}`)
    expect(status).toBe(409)
    await Promise.all(busy.map(({ body: { id } }) => service.call("POST", `/jobs/${id}/cancel`)))
    await service.ended(waiting[1]?.body.id)
  })

  it("is removed with all that belongs to it", async () => {
    const { body } = await service.submit(work({ text: "x" }), {}, { prefer: "wait=60" })
    expect((await service.call("DELETE", `/jobs/${body.id}`)).status).toBe(204)
    expect((await service.call("GET", `/jobs/${body.id}`)).status).toBe(404)
    expect((await service.call("DELETE", `/jobs/${body.id}`)).status).toBe(404)
  })
})

describe("a retry", () => {
  it("is a new job with what the old one was given, and only of one that has failed or was cancelled", async () => {
    const more = { maxAttempts: 1, metadata: { order: "7" }, timeoutSeconds: 9, model: "m" }
    const { body: failed } = await service.submit(work({ exit: 3 }), more, { prefer: "wait=60" })
    expect(failed.status).toBe("failed")
    const key = { "idempotency-key": `retry-${failed.id}` }
    const retried = await service.call("POST", `/jobs/${failed.id}/retry`, undefined, { ...key, prefer: "wait=60" })
    expect(retried.headers.get("location")).toBe(`/jobs/${retried.body.id}`)
    expect(retried.body.id).not.toBe(failed.id)
    expect(retried.body).toMatchObject({
      status: "failed",
      input: failed.input,
      metadata: more.metadata,
      maxAttempts: 1,
      timeoutSeconds: 9,
    })
    expect(retried.body.input.model).toBe("m")
    const again = await service.call("POST", `/jobs/${failed.id}/retry`, undefined, key)
    expect(again.body.id).toBe(retried.body.id)
    expect((await service.call("GET", `/jobs/${failed.id}`)).body).toEqual(failed)

    const { body: succeeded } = await service.submit(work({}), {}, { prefer: "wait=60" })
    const refused = await service.call("POST", `/jobs/${succeeded.id}/retry`)
    expect([refused.status, refused.body.type]).toEqual([409, "/problems/job-not-failed"])
  })
})

describe("an idempotency key", () => {
  it("gives the same job for the same body, and refuses another body", async () => {
    const key = { "idempotency-key": "order-17" }
    const answers = await Promise.all(
      Array.from({ length: 200 }, () => service.submit(work({ text: "once" }), {}, key)),
    )
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1)
    expect(answers.every(({ status }) => status === 202 || status === 200)).toBe(true)
    const other = await service.submit(work({ text: "twice" }), {}, key)
    expect(other.status).toBe(422)
    expect(other.body.type).toBe("/problems/idempotency-conflict")
    await service.ended(answers[0]?.body.id)
  })

  it("takes the same JSON for the same request, in whatever order and spacing", async () => {
    const key = { "idempotency-key": "order-18" }
    const first = await service.submit(work({ text: "once" }), { metadata: { b: "2", "10": "x", a: "ä" } }, key)
    const text = JSON.stringify(work({ text: "once" }))
    const body = `{ "metadata" : {"a":"\\u00e4", "10": "x",\n"b":"2"} , "prompt":${text} }`
    expect((await service.call("POST", "/jobs", body, key)).body.id).toBe(first.body.id)
    await service.ended(first.body.id)
  })

  it("runs no removed job again: 410, with the job's id", async () => {
    const key = { "idempotency-key": "order-19" }
    const send = () => service.submit(work({ text: "once" }), {}, key)
    const { id } = (await send()).body
    await service.ended(id)
    expect((await service.call("DELETE", `/jobs/${id}`)).status).toBe(204)
    const again = await send()
    expect([again.status, again.body.type, again.body.jobId]).toEqual([410, "/problems/job-gone", id])
    // The short way and the long one.
    expect((await service.submit(work({ text: "once" }), {}, { ...key, prefer: "wait=1" })).status).toBe(410)
  })

  it("is one call's: another call with it is refused, though it asks for the same", async () => {
    const key = { "idempotency-key": "order-20" }
    const prompt = work({ text: "x", exit: 1 })
    const { body } = await service.submit(prompt, { maxAttempts: 1 }, key)
    const failed = await service.ended(body.id)
    const conflict = "/problems/idempotency-conflict"
    expect((await service.call("POST", `/jobs/${failed.id}/retry`, undefined, key)).body.type).toBe(conflict)
    const other = { "idempotency-key": "order-21" }
    await service.call("POST", "/v1/responses", { input: "y", background: true }, other)
    expect((await service.submit("y", {}, other)).body.type).toBe(conflict)
  })
})

describe("the list", () => {
  it("pages through the jobs, newest first, without their input and output", async () => {
    const ids: Array<string> = []
    for (const text of ["a", "b", "c", "d", "e"]) ids.unshift((await service.submit(work({ text }))).body.id)
    await Promise.all(ids.map((id) => service.ended(id)))
    const first = await service.call("GET", "/jobs?limit=3&status=succeeded")
    const second = await service.call("GET", `/jobs?limit=2&status=succeeded&cursor=${first.body.cursor}`)
    const listed = [...first.body.jobs, ...second.body.jobs]
    expect(listed.map(({ id }) => id)).toEqual(ids)
    expect(listed[0].input).toBeUndefined()
    expect((await service.call("GET", "/jobs?resource=none")).body).toEqual({ jobs: [], cursor: null })
  })
})

describe("resources", () => {
  it("tells what they do, and changes permits while they work", async () => {
    const { body } = await service.call("GET", "/resources")
    expect(body.resources).toMatchObject([{ name: "llm", adapter: "command", permits: 2 }])
    const changed = await service.call("PATCH", "/resources/llm", { permits: 3 })
    expect(changed).toMatchObject({ status: 200, body: { permits: 3 } })
    await service.call("PATCH", "/resources/llm", { permits: 2 })
  })
})

describe("health", () => {
  it("is live and ready", async () => {
    expect(await service.call("GET", "/health/live")).toMatchObject({ status: 200, body: { status: "live" } })
    expect(await service.call("GET", "/health/ready")).toMatchObject({ status: 200, body: { status: "ready" } })
  })
})

describe("whatever is wrong", () => {
  const json = { "content-type": "application/json" }
  const cases: ReadonlyArray<
    readonly [
      name: string,
      method: string,
      path: string,
      body: string | undefined,
      headers: Record<string, string>,
      status: number,
      slug: string,
    ]
  > = [
    ["an unknown path", "GET", "/nothing", undefined, {}, 404, "not-found"],
    ["a wrong method", "PUT", "/jobs", "{}", json, 405, "method-not-allowed"],
    ["a wrong method on a job", "PATCH", "/jobs/x", "{}", json, 405, "method-not-allowed"],
    ["an unknown job", "GET", "/jobs/job_01M86EMQYK3Q4NC076JY352TC6", undefined, {}, 404, "job-not-found"],
    ["no job id at all", "GET", "/jobs/..%2f..%2fetc", undefined, {}, 404, "job-not-found"],
    [
      "an unknown job's events",
      "GET",
      "/jobs/job_01M86EMQYK3Q4NC076JY352TC6/events",
      undefined,
      {},
      404,
      "job-not-found",
    ],
    [
      "an event id that is none",
      "GET",
      "/jobs/job_01M86EMQYK3Q4NC076JY352TC6/events",
      undefined,
      { "last-event-id": "x" },
      400,
      "invalid-parameter",
    ],
    ["no JSON", "POST", "/jobs", "{", json, 400, "invalid-json"],
    ["no UTF-8", "POST", "/jobs", "", json, 400, "invalid-json"],
    ["no object", "POST", "/jobs", "[]", json, 422, "invalid-request"],
    ["no prompt", "POST", "/jobs", "{}", json, 422, "invalid-request"],
    ["an empty prompt", "POST", "/jobs", '{"prompt":""}', json, 422, "invalid-request"],
    ["an unknown member", "POST", "/jobs", '{"prompt":"x","promt":"y"}', json, 422, "invalid-request"],
    ["a member of the prototype", "POST", "/jobs", '{"prompt":"x","__proto__":{"a":1}}', json, 422, "invalid-request"],
    ["a wrong type", "POST", "/jobs", '{"prompt":"x","maxAttempts":"3"}', json, 422, "invalid-request"],
    ["a number out of range", "POST", "/jobs", '{"prompt":"x","timeoutSeconds":0}', json, 422, "invalid-request"],
    [
      "too many labels",
      "POST",
      "/jobs",
      JSON.stringify({ prompt: "x", metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [i, ""])) }),
      json,
      422,
      "invalid-request",
    ],
    ["an unknown resource", "POST", "/jobs", '{"prompt":"x","resource":"gpu"}', json, 422, "unknown-resource"],
    ["an empty key", "POST", "/jobs", '{"prompt":"x"}', { ...json, "idempotency-key": "" }, 400, "invalid-parameter"],
    [
      "no content type",
      "POST",
      "/jobs",
      '{"prompt":"x"}',
      { "content-type": "text/plain" },
      415,
      "unsupported-media-type",
    ],
    ["a large body", "POST", "/jobs", JSON.stringify({ prompt: "x".repeat(30_000) }), json, 413, "body-too-large"],
    ["an unknown status", "GET", "/jobs?status=done", undefined, {}, 400, "invalid-parameter"],
    ["an unknown parameter", "GET", "/jobs?state=failed", undefined, {}, 400, "invalid-parameter"],
    ["a limit out of range", "GET", "/jobs?limit=1000", undefined, {}, 400, "invalid-parameter"],
    ["permits out of range", "PATCH", "/resources/llm", '{"permits":0}', json, 422, "invalid-request"],
    ["permits of nothing", "PATCH", "/resources/gpu", '{"permits":1}', json, 404, "resource-not-found"],
    ["an unknown problem", "GET", "/problems/none", undefined, {}, 404, "not-found"],
  ]

  it.each(cases)(
    "%s is a problem document, and changes nothing",
    async (_, method, path, body, headers, status, slug) => {
      const before = (await service.call("GET", "/jobs?limit=1")).body
      const answer = await service.call(method, path, body, headers)
      expect(answer.body).toMatchObject({
        type: `/problems/${slug}`,
        status,
        title: expect.any(String),
        detail: expect.any(String),
      })
      expect(answer.status).toBe(status)
      expect(answer.headers.get("content-type")).toBe("application/problem+json")
      expect((await service.call("GET", answer.body.type)).status).toBe(200)
      expect((await service.call("GET", "/jobs?limit=1")).body).toEqual(before)
    },
  )

  it("names each member that is wrong", async () => {
    const { body } = await service.call("POST", "/jobs", { prompt: 1, extra: true, metadata: { a: 1, b: ["secret"] } })
    expect(body.errors.map(({ pointer }: { pointer: string }) => pointer).sort()).toEqual([
      "/extra",
      "/metadata/a",
      "/metadata/b",
      "/prompt",
    ])
    expect(JSON.stringify(body)).not.toContain("secret")
  })

  it("says which methods a path takes", async () => {
    const { headers } = await service.call("PUT", "/jobs", {})
    expect(headers.get("allow")?.split(", ").sort()).toEqual(["GET", "HEAD", "POST"])
  })

  const raw = (text: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = createConnection(Number(new URL(service.url).port), "127.0.0.1", () => socket.write(text))
      let answer = ""
      socket.on("data", (chunk) => {
        answer += chunk.toString()
      })
      socket.on("close", () => resolve(answer))
      socket.on("error", reject)
    })

  it("is one where it is not even HTTP", async () => {
    expect(await raw("nonsense\r\n\r\n")).toMatch(
      /^HTTP\/1.1 400[\s\S]*application\/problem\+json[\s\S]*malformed-http/,
    )
    expect(await raw(`GET / HTTP/1.1\r\nHost: localhost\r\nX: ${"x".repeat(20_000)}\r\n\r\n`)).toMatch(/^HTTP\/1.1 431/)
  })

  it("is one where the Host is somebody else's", async () => {
    const answer = await raw("GET /jobs HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    expect(answer).toMatch(/^HTTP\/1.1 421[\s\S]*misdirected-request/)
  })

  it("is one where a body without a length is too large", async () => {
    const chunk = `4000\r\n${"x".repeat(0x4000)}\r\n`
    const head =
      "POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    expect(await raw(head + chunk.repeat(3))).toMatch(/^HTTP\/1.1 413[\s\S]*connection: close/i)
  })

  it("is 429 when the queue is full, and what was accepted is kept", async () => {
    const answers = await Promise.all(Array.from({ length: 100 }, () => service.submit(work({ millis: 500 }))))
    const refused = answers.filter(({ status }) => status === 429)
    const accepted = answers.filter(({ status }) => status === 202)
    expect(refused.length).toBeGreaterThan(0)
    // On a disk that is too busy for it some are 503, and nothing of them is kept.
    const others = answers.filter(({ status }) => status !== 429 && status !== 202)
    expect(new Set(others.map(({ body }) => body.type))).toEqual(
      new Set(others.length === 0 ? [] : ["/problems/store-unavailable"]),
    )
    expect(refused[0]?.body.type).toBe("/problems/queue-full")
    expect(Number(refused[0]?.headers.get("retry-after"))).toBeGreaterThan(0)
    for (const { body } of accepted) expect((await service.ended(body.id, 150)).status).toBe("succeeded")
  })
})

it("logs no prompt, no output and no stderr", () => {
  expect(service.log).not.toMatch(/out of luck|"millis\\|half/)
})
