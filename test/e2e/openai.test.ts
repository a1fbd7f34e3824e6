/** The official client, unchanged but for its `baseURL`. */
import { writeFileSync } from "node:fs"
import { request } from "node:http"
import { join } from "node:path"
import OpenAI, { APIError, APIUserAbortError } from "openai"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { processesWith, Service, standIn, waitUntil } from "./Service.js"

const service = new Service({
  OFFLOAD_RESOURCES: JSON.stringify({
    work: { adapter: "command", command: standIn("work") },
    other: { adapter: "command", command: standIn("work"), model: "small" },
  }),
  OFFLOAD_MAX_BODY_BYTES: "20000",
  OFFLOAD_MAX_ATTEMPTS: "2",
  OFFLOAD_MAX_STREAMS: "3",
})
beforeAll(() => service.start())
afterAll(() => service.dispose())

/** The service listens at another port after each start. */
const client = () => new OpenAI({ baseURL: `${service.url}/v1`, apiKey: "none" })

const work = (what: Record<string, unknown>) => JSON.stringify(what)

const jobOf = (id: string) => id.replace("resp_", "job_")

type StreamEvent = OpenAI.Responses.ResponseStreamEvent

const textOf = (events: ReadonlyArray<StreamEvent>) =>
  events.map((event) => (event.type === "response.output_text.delta" ? event.delta : "")).join("")

/** What the client throws where a call is refused. */
const refused = async (call: Promise<unknown>): Promise<APIError> => {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (error instanceof APIError) return error
  throw new Error("it was not refused", { cause: error })
}

describe("a response", () => {
  it("is waited for", async () => {
    const response = await client().responses.create({
      model: "work",
      input: work({ text: "hello" }),
      metadata: { user: "1" },
    })
    expect(response).toMatchObject({
      status: "completed",
      output_text: "hello",
      model: "work",
      metadata: { user: "1" },
    })
    expect(response).toMatchObject({ background: false, error: null, tools: [] })
    const job = (await service.call("GET", `/jobs/${jobOf(response.id)}`)).body
    expect(job).toMatchObject({ status: "succeeded", resource: "work", output: { text: "hello" } })
    expect(response.created_at).toBe(Math.floor(Date.parse(job.createdAt) / 1000))
  })

  it("goes on where its client hangs up", async () => {
    const hangUp = new AbortController()
    const until = join(service.data, "alone")
    const input = work({ text: "alone", until })
    const waiting = client().responses.create({ input }, { signal: hangUp.signal })
    const newest = async () => (await service.call("GET", "/jobs?limit=1")).body.jobs[0]
    await waitUntil(async () => (await newest()).status === "running")
    hangUp.abort()
    await expect(waiting).rejects.toThrow(APIUserAbortError)
    writeFileSync(until, "")
    expect(await service.ended((await newest()).id)).toMatchObject({ status: "succeeded", output: { text: "alone" } })
  })

  it("runs in the background and is polled for", async () => {
    const { responses } = client()
    const created = await responses.create({ input: work({ text: "later", millis: 300 }), background: true })
    expect(["queued", "in_progress"]).toContain(created.status)
    let polled = created
    await waitUntil(async () => {
      polled = await responses.retrieve(created.id)
      return polled.status !== "queued" && polled.status !== "in_progress"
    })
    expect(polled).toMatchObject({ id: created.id, status: "completed", output_text: "later" })
  })

  it("fails with what its command failed with, and keeps the text", async () => {
    const failed = await client().responses.create({ input: work({ text: "half", exit: 3, stderr: "secret" }) })
    expect(failed).toMatchObject({ status: "failed", error: { code: "server_error" }, output_text: "half" })
    expect(failed.error?.message).toMatch(/exited with code 3/)
    expect(failed.output).toMatchObject([{ status: "incomplete" }])
  })

  it("goes to the resource, or the model of one, that `model` names", async () => {
    const input = work({ text: "x" })
    const models = ["other", "small", "work/large"].map((model) => client().responses.create({ model, input }))
    const made = await Promise.all(models)
    expect(made.map(({ model }) => model)).toEqual(["other", "small", "large"])
    const jobs = await Promise.all(made.map(({ id }) => service.call("GET", `/jobs/${jobOf(id)}`)))
    expect(jobs.map(({ body }) => body.resource)).toEqual(["other", "other", "work"])
  })

  it("is one with an idempotency key, and with the job that POST /jobs made", async () => {
    const headers = { "Idempotency-Key": "order-17" }
    const body = { input: work({ text: "once" }) }
    const twice = await Promise.all([
      client().responses.create(body, { headers }),
      client().responses.create(body, { headers }),
    ])
    expect(twice[0].id).toBe(twice[1].id)
    const conflict = await refused(client().responses.create({ input: work({ text: "twice" }) }, { headers }))
    expect(conflict).toMatchObject({ status: 400, code: "idempotency_conflict" })
    const { body: job } = await service.submit(work({ text: "a job" }), {}, { prefer: "wait=60" })
    expect(await client().responses.retrieve(job.id.replace("job_", "resp_"))).toMatchObject({ output_text: "a job" })
  })

  it("is cancelled when its processes are gone, and stays so", async () => {
    const { responses } = client()
    const { id } = await responses.create({ input: work({ text: "busy", millis: 600_000 }), background: true })
    await waitUntil(async () => (await responses.retrieve(id)).output_text === "busy")
    const removal = await refused(responses.delete(id))
    expect(removal).toMatchObject({ status: 409, type: "invalid_request_error", code: "job_not_terminal" })
    expect(removal.headers?.get("x-should-retry")).toBe("false")
    expect(await responses.cancel(id)).toMatchObject({ id, status: "cancelled", error: null })
    expect(processesWith(`${jobOf(id)}.1`)).toEqual([])
    expect(await responses.cancel(id)).toMatchObject({ status: "cancelled" })
  })

  it("is deleted", async () => {
    const { responses } = client()
    const { id } = await responses.create({ input: work({ text: "x" }) })
    expect(await responses.delete(id)).toEqual({ id, object: "response", deleted: true })
    const error = await refused(responses.retrieve(id))
    expect(error).toMatchObject({ status: 404, type: "invalid_request_error", code: "response_not_found", param: null })
    expect(error.message).toContain(id)
  })
})

describe("a stream", () => {
  it("tells the text as it comes, and ends with the response", async () => {
    const stream = client().responses.stream({ input: work({ text: "😀 chunk", chunks: 10, millis: 1000 }) })
    const events: Array<StreamEvent> = []
    let snapshot = ""
    stream.on("response.output_text.delta", (event) => {
      snapshot = event.snapshot
    })
    for await (const event of stream) events.push(event)
    const response = await stream.finalResponse()
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, index) => index))
    expect(events.filter(({ type }) => type === "response.output_text.delta").length).toBeGreaterThan(1)
    expect(response).toMatchObject({ status: "completed", output_text: textOf(events) })
    expect(snapshot).toBe(response.output_text)
    expect(events.at(-1)).toMatchObject({ type: "response.completed", response: { id: response.id } })
  })

  it("goes on where it was cut, with nothing lost or repeated, also after kill -9 of the service", async () => {
    const { id } = await client().responses.create({
      input: work({ text: "line", chunks: 30, millis: 3000, first: 20 }),
      background: true,
    })
    const got: Array<StreamEvent> = []
    let wasKilled = false
    const isTimeToKill = () => !wasKilled && textOf(got).includes("line 9\n")
    while (got.at(-1)?.type !== "response.completed") {
      const after = got.at(-1)?.sequence_number
      const stream = await client().responses.retrieve(id, {
        stream: true,
        ...(after === undefined ? {} : { starting_after: after }),
      })
      let read = 0
      for await (const event of stream) {
        got.push(event)
        // Leaving the loop cuts the connection.
        if (++read === 4 || isTimeToKill()) break
      }
      if (isTimeToKill()) {
        wasKilled = true
        await service.kill()
        await service.start()
      }
    }
    expect(got.map(({ sequence_number }) => sequence_number)).toEqual(got.map((_, index) => index))
    const whole = []
    for await (const event of await client().responses.retrieve(id, { stream: true })) whole.push(event)
    expect(got).toEqual(whole)
    // The first attempt was cut off: its item is told as incomplete, and the second attempt has one of its own.
    const items = got.filter((event) => event.type === "response.output_item.done")
    expect(items).toMatchObject([
      { output_index: 0, item: { status: "incomplete" } },
      { output_index: 1, item: { status: "completed" } },
    ])
    const response = await client().responses.retrieve(id)
    const second = got.filter((event) => event.type === "response.output_text.delta" && event.output_index === 1)
    expect(response.output_text).toBe(textOf(second))
    const resumed = client().responses.stream({ response_id: id, starting_after: got.length - 2 })
    expect(await resumed.finalResponse()).toMatchObject({ status: "completed", output_text: response.output_text })
  })

  it("ends with a response that failed, and with one that is cancelled", async () => {
    const failed = client().responses.stream({ input: work({ text: "half", exit: 3 }) })
    expect(await failed.finalResponse()).toMatchObject({ status: "failed", error: { code: "server_error" } })
    const stream = client().responses.stream({ input: work({ text: "busy", millis: 600_000 }), background: true })
    const types: Array<string> = []
    for await (const event of stream) {
      types.push(event.type)
      if (event.type === "response.created") await client().responses.cancel(event.response.id)
    }
    expect(types.at(-1)).toBe("response.incomplete")
    expect(await stream.finalResponse()).toMatchObject({ status: "cancelled", error: null })
  })

  it("is refused above the limit of open ones, and then no job is saved", async () => {
    const { id } = await client().responses.create({ input: work({ millis: 600_000 }), background: true })
    const streams = await Promise.all([1, 2, 3].map(() => client().responses.retrieve(id, { stream: true })))
    const before = (await service.call("GET", "/jobs?limit=1")).body
    const error = await refused(
      client().responses.create({ input: work({ text: "x" }), stream: true }, { maxRetries: 0 }),
    )
    expect(error).toMatchObject({ status: 429, type: "rate_limit_error", code: "rate_limit_exceeded" })
    expect((await service.call("GET", "/jobs?limit=1")).body.jobs[0].id).toBe(before.jobs[0].id)
    for (const { controller } of streams) controller.abort()
    await client().responses.cancel(id)
  })
})

describe("models", () => {
  it("are the resources", async () => {
    const models = []
    for await (const model of client().models.list()) models.push(model)
    expect(models).toEqual(["work", "other"].map((id) => ({ id, object: "model", created: 0, owned_by: "command" })))
  })
})

describe("whatever is wrong", () => {
  it("names the field that cannot be honoured", async () => {
    const error = await refused(client().responses.create({ input: "x", tools: [{ type: "web_search" }] }))
    expect(error).toMatchObject({
      status: 400,
      type: "invalid_request_error",
      code: "unsupported_parameter",
      param: "tools",
    })
    const model = await refused(client().responses.create({ input: "x", model: "gpt-5" }))
    expect(model).toMatchObject({ status: 400, code: "model_not_found", param: "model" })
  })

  const json = { "content-type": "application/json" }
  const id = "resp_01M86EMQYK3Q4NC076JY352TC6"
  const cases: ReadonlyArray<
    readonly [string, string, string, string | undefined, Record<string, string>, number, string, string | null]
  > = [
    ["an unknown response", "GET", `/v1/responses/${id}`, undefined, {}, 404, "response_not_found", null],
    ["its stream", "GET", `/v1/responses/${id}?stream=true`, undefined, {}, 404, "response_not_found", null],
    ["its cancel", "POST", `/v1/responses/${id}/cancel`, undefined, {}, 404, "response_not_found", null],
    ["its removal", "DELETE", `/v1/responses/${id}`, undefined, {}, 404, "response_not_found", null],
    ["a job's id", "GET", `/v1/responses/${jobOf(id)}`, undefined, {}, 404, "response_not_found", null],
    ["no id at all", "GET", "/v1/responses/..%2f..%2fetc", undefined, {}, 404, "response_not_found", null],
    ["an unknown path", "GET", "/v1/files", undefined, {}, 404, "unknown_url", null],
    ["a wrong method", "GET", "/v1/responses", undefined, {}, 405, "method_not_supported", null],
    ["a wrong method on a response", "PUT", `/v1/responses/${id}`, "{}", json, 405, "method_not_supported", null],
    ["no JSON", "POST", "/v1/responses", "{", json, 400, "invalid_json", null],
    ["no object", "POST", "/v1/responses", "[]", json, 400, "invalid_value", null],
    [
      "no content type",
      "POST",
      "/v1/responses",
      '{"input":"x"}',
      { "content-type": "text/plain" },
      415,
      "unsupported_media_type",
      null,
    ],
    [
      "a large body",
      "POST",
      "/v1/responses",
      JSON.stringify({ input: "x".repeat(30_000) }),
      json,
      413,
      "body_too_large",
      null,
    ],
    ["an unknown field", "POST", "/v1/responses", '{"input":"x","promt":"y"}', json, 400, "unknown_parameter", "promt"],
    [
      "an empty key",
      "POST",
      "/v1/responses",
      '{"input":"x"}',
      { ...json, "idempotency-key": "" },
      400,
      "invalid_parameter",
      "idempotency-key",
    ],
    [
      "a number that is none",
      "GET",
      `/v1/responses/${id}?stream=true&starting_after=x`,
      undefined,
      {},
      400,
      "invalid_value",
      "starting_after",
    ],
    ["an unknown parameter", "GET", `/v1/responses/${id}?steam=true`, undefined, {}, 400, "unknown_parameter", "steam"],
  ]

  it.each(cases)(
    "%s is an error of this API, and changes nothing",
    async (_, method, path, body, headers, status, code, param) => {
      const before = (await service.call("GET", "/jobs?limit=1")).body
      const answer = await service.call(method, path, body, headers)
      expect(answer.body).toEqual({
        error: { message: expect.any(String), type: "invalid_request_error", code, param },
      })
      expect(answer.status).toBe(status)
      expect((await service.call("GET", "/jobs?limit=1")).body).toEqual(before)
    },
  )

  it("says which methods a path takes", async () => {
    const { headers } = await service.call("PUT", "/v1/responses", {})
    expect(headers.get("allow")).toBe("POST")
  })
})

it("looks at the Host first, and says so in its own shape", async () => {
  const type = await new Promise((resolve, reject) => {
    request(`${service.url}/v1/models`, { headers: { host: "evil.example" } }, (answer) => {
      answer.resume()
      resolve([answer.statusCode, answer.headers["content-type"]])
    })
      .on("error", reject)
      .end()
  })
  expect(type).toEqual([421, "application/problem+json"])
})

describe("with keys", () => {
  const guarded = new Service({
    OFFLOAD_API_KEYS: JSON.stringify({ alice: { keys: ["alice-0123456789"] }, bob: { keys: ["bob-0123456789ab"] } }),
    OFFLOAD_LLM: "command",
    OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
  })
  beforeAll(() => guarded.start())
  afterAll(() => guarded.dispose())

  const as = (apiKey: string) => new OpenAI({ baseURL: `${guarded.url}/v1`, apiKey }).responses

  it("a caller sees its own responses alone", async () => {
    const input = work({ text: "mine" })
    const { id } = await as("alice-0123456789").create({ input })
    expect(await as("alice-0123456789").retrieve(id)).toMatchObject({ output_text: "mine" })
    for (const call of [as("bob-0123456789ab").retrieve(id), as("bob-0123456789ab").delete(id)]) {
      expect(await refused(call)).toMatchObject({ status: 404, code: "response_not_found" })
    }
    expect(await refused(as("nobody").create({ input }))).toMatchObject({
      status: 401,
      type: "invalid_request_error",
      code: "invalid_api_key",
    })
  })
})

it("logs no prompt, no output and no stderr", () => {
  expect(service.log).not.toMatch(/secret|"millis\\|half/)
})
