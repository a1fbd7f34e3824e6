import { HttpServerResponse } from "@effect/platform"
import { Either } from "effect"
import { describe, expect, it } from "vitest"
import type { ProblemSlug } from "../../src/Api/Problem.js"
import * as Events from "../../src/Http/OpenAi/Events.js"
import * as Request from "../../src/Http/OpenAi/Request.js"
import * as Response from "../../src/Http/OpenAi/Response.js"
import { toResponse } from "../../src/Http/OpenAi.js"
import { Problem } from "../../src/Http/Problem.js"
import { LlmExit, LlmOutputTooLarge, LlmOutputTruncated, LlmRateLimited, toFailure } from "../../src/Job/JobError.js"
import * as Transition from "../../src/Job/Transition.js"
import { type Event, type Failure, type Job, makeId } from "../../src/Job.js"
import type { Json } from "../e2e/Service.js"

const resources = [
  { name: "llm", model: null, models: null },
  { name: "claude", model: "opus", models: null },
  { name: "spare", model: "opus", models: null },
  { name: "bounded", model: "small", models: ["small", "large"] },
]

const submission = (body: unknown) =>
  Either.flatMap(Request.decode(body), (request) => Request.toSubmission(request, resources))

const accepted = (body: unknown) => Either.getOrThrow(submission(body))

/** The code and the field of what a request is refused with. */
const refused = (body: unknown) => {
  const { code, param, status } = Either.getOrThrow(Either.flip(submission(body)))
  expect(status).toBe(400)
  return [code, param]
}

describe("a request", () => {
  it("is a job: one message of the user is the prompt as it is", () => {
    expect(accepted({ input: "hi" })).toEqual({ prompt: "hi", metadata: {} })
    expect(accepted({ input: [{ role: "user", content: " hi\n" }] }).prompt).toBe(" hi\n")
    const parts = [
      { type: "input_text", text: "a" },
      { type: "input_text", text: "b" },
    ]
    expect(accepted({ input: [{ type: "message", role: "user", content: parts }] }).prompt).toBe("a\nb")
  })

  it("is told under the names of its roles where it is a conversation, what an earlier response put out included", () => {
    const earlier = {
      id: "msg_1",
      type: "message",
      role: "assistant",
      status: "completed",
      content: [{ type: "output_text", text: "4", annotations: [], logprobs: [] }],
    }
    const job = accepted({
      instructions: "Be brief.",
      input: [
        { role: "developer", content: "Digits alone." },
        { role: "user", content: "2+2?" },
        earlier,
        { role: "user", content: "And 3+3?" },
      ],
    })
    expect(job.prompt).toBe("User:\n2+2?\n\nAssistant:\n4\n\nUser:\nAnd 3+3?")
    expect(job.system).toBe("Be brief.\n\nDigits alone.")
  })

  it("names a resource, a model of one, or a model that one has", () => {
    expect(accepted({ input: "x", model: "claude" })).toMatchObject({ resource: "claude" })
    expect(accepted({ input: "x", model: "claude" }).model).toBeUndefined()
    expect(accepted({ input: "x", model: "llm/a/b" })).toMatchObject({ resource: "llm", model: "a/b" })
    expect(accepted({ input: "x", model: "opus" })).toMatchObject({ resource: "claude", model: "opus" })
    expect(refused({ input: "x", model: "gpt-5" })).toEqual(["model_not_found", "model"])
    expect(refused({ input: "x", model: "llm/" })).toEqual(["invalid_value", "model"])
    expect(refused({ input: "x", model: "/x" })).toEqual(["model_not_found", "model"])
  })

  it("may spell out what is so anyway", () => {
    const defaults = {
      background: true,
      include: [],
      max_output_tokens: null,
      parallel_tool_calls: true,
      reasoning: { effort: null },
      service_tier: "auto",
      store: true,
      stream: null,
      stream_options: null,
      temperature: null,
      text: { format: { type: "text" } },
      tool_choice: "auto",
      tools: [],
      truncation: "disabled",
      user: "somebody",
    }
    expect(accepted({ input: "x", ...defaults })).toEqual({ prompt: "x", metadata: {} })
  })

  it.each<readonly [body: Record<string, unknown>, code: string, param: string]>([
    [{ tools: [{ type: "web_search" }] }, "unsupported_parameter", "tools"],
    [{ temperature: 0 }, "unsupported_parameter", "temperature"],
    [{ top_p: 1 }, "unsupported_parameter", "top_p"],
    [{ max_output_tokens: 5 }, "unsupported_parameter", "max_output_tokens"],
    [{ previous_response_id: "resp_1" }, "unsupported_parameter", "previous_response_id"],
    [{ conversation: "conv_1" }, "unsupported_parameter", "conversation"],
    [{ reasoning: { effort: "high" } }, "unsupported_parameter", "reasoning"],
    [{ store: false }, "unsupported_parameter", "store"],
    [{ truncation: "auto" }, "unsupported_parameter", "truncation"],
    [{ text: { format: { type: "json_schema", name: "x", schema: {} } } }, "unsupported_parameter", "text.format"],
    [{ text: { verbosity: "low" } }, "unsupported_parameter", "text.verbosity"],
    [{ text: "x" }, "unsupported_parameter", "text"],
    [{ include: ["reasoning.encrypted_content"] }, "unsupported_parameter", "include"],
    [
      { input: [{ role: "user", content: [{ type: "input_image", image_url: "x" }] }] },
      "unsupported_parameter",
      "input[0].content[0].type",
    ],
    [
      {
        input: [
          { role: "user", content: "x" },
          { type: "function_call_output", call_id: "1", output: "" },
        ],
      },
      "unsupported_parameter",
      "input[1].type",
    ],
    [{ input: undefined }, "missing_required_parameter", "input"],
    [{ input: "" }, "invalid_value", "input"],
    [{ input: [] }, "invalid_value", "input"],
    [{ input: 1 }, "invalid_value", "input"],
    [{ input: [{ role: "tool", content: "x" }] }, "invalid_value", "input[0].role"],
    [{ input: [{ role: "user" }] }, "missing_required_parameter", "input[0].content"],
    [{ instructions: "a\0b" }, "invalid_value", "instructions"],
    [{ metadata: { a: 1 } }, "invalid_value", "metadata.a"],
    [{ metadata: { a: "x".repeat(513) } }, "invalid_value", "metadata.a"],
    [{ background: "yes" }, "invalid_value", "background"],
    [{ promt: "x" }, "unknown_parameter", "promt"],
    [JSON.parse('{"__proto__":1}'), "unknown_parameter", "__proto__"],
  ])("is refused by the name of the field: %j", (body, code, param) => {
    const asked = Object.entries(body).filter(([, value]) => value !== undefined)
    expect(refused(Object.fromEntries("input" in body ? asked : [["input", "x"], ...asked]))).toEqual([code, param])
  })

  it("is no object", () => {
    expect(refused([])).toEqual(["invalid_value", null])
    expect(refused(null)).toEqual(["invalid_value", null])
  })
})

describe("a problem of the service", () => {
  it.each<readonly [slug: ProblemSlug, status: number, type: string, code: string]>([
    ["store-unavailable", 503, "server_error", "store_unavailable"],
    ["internal", 500, "server_error", "internal"],
    ["queue-full", 429, "rate_limit_error", "rate_limit_exceeded"],
    ["unauthorized", 401, "invalid_request_error", "invalid_api_key"],
    ["job-not-terminal", 409, "invalid_request_error", "job_not_terminal"],
    ["idempotency-conflict", 400, "invalid_request_error", "idempotency_conflict"],
  ])("%s is an error of this API", async (slug, status, type, code) => {
    const answer = toResponse(new Problem({ slug, detail: "so", headers: { "retry-after": "5" } }))
    const web = HttpServerResponse.toWeb(answer)
    expect([web.status, web.headers.get("retry-after")]).toEqual([status, "5"])
    expect(await web.json()).toEqual({ error: { message: "so", type, param: null, code } })
  })
})

/** A job's life, move by move, and the log that a store would have kept of it. */
class Life {
  job: Job
  readonly log: Array<Event> = []

  constructor() {
    this.job = Transition.create(
      {
        id: makeId(1_700_000_000_500),
        resource: "llm",
        caller: "anonymous",
        input: { prompt: "x" },
        metadata: { a: "b" },
        maxAttempts: 2,
        timeoutMillis: 1000,
        maxCostUsd: null,
        deadlineMillis: null,
        webhook: null,
        idempotency: null,
      },
      1,
      1_700_000_000_500,
    )
    this.#note()
  }

  claim(): this {
    const job = Transition.ready(this.job, 1_700_000_001_000) ?? this.job
    return this.#move(Transition.claim(job, "command", 1_700_000_001_000))
  }

  say(text: string): this {
    this.job = { ...this.job, events: this.job.events + 1 }
    this.log.push({ type: "output", event: this.job.events, at: 0, attempt: this.job.attempt, text })
    return this
  }

  settle(outcome: Transition.Outcome): this {
    return this.#move(Transition.settle(this.job, this.job.attempt, outcome, 1_700_000_009_000))
  }

  fail(failure: Failure): this {
    return this.settle({ _tag: "Failed", failure, retryAt: 0 })
  }

  cancel(): this {
    return this.#move(Transition.cancel(this.job, 1_700_000_008_000))
  }

  /** The text of its newest attempt, as the store would give it. */
  get text(): string {
    return this.log
      .map((event) => (event.type === "output" && event.event >= this.job.outputFrom ? event.text : ""))
      .join("")
  }

  get response() {
    return Response.current(this.job, { prompt: "x" }, this.text)
  }

  get events(): ReadonlyArray<Json> {
    return told(this, [...this.log, { type: "ended", job: this.job }])
  }

  #move(next: Job | null): this {
    if (next === null) throw new Error("this move is not allowed")
    const isNews = next.status !== this.job.status
    this.job = next
    if (isNews) this.#note()
    return this
  }

  #note() {
    const { attempt, error, events, status } = this.job
    this.log.push({ type: "status", event: events, at: 0, status, attempt, error })
  }
}

/** What a reader makes of entries of a log. */
const told = ({ job, log }: Life, entries: ReadonlyArray<Events.Entry>): ReadonlyArray<Json> => {
  let position = Events.start
  return entries.flatMap((entry) => {
    const step = Events.advance(job, { prompt: "x" }, position, entry)
    position = step.to
    return step.told.map((message) => {
      const { rest, span, text } = Events.encode(message)
      const within = log.filter(({ event }) => span !== null && event > span.after && event <= span.last)
      const data = /^event: (\S+)\ndata: (.*)\n\n$/s.exec(text + within.map(Events.textOf).join("") + rest)?.[2]
      return JSON.parse(data ?? "null")
    })
  })
}

const exit = toFailure(new LlmExit({ command: "x", exitCode: 3, signal: null, stderr: "" }))
const succeeded: Transition.Outcome = { _tag: "Succeeded", output: { usage: { inputTokens: 3, outputTokens: 4 } } }

const types = (life: Life) => life.events.map(({ type }) => type.replace("response.", ""))

describe("a response", () => {
  it("is the job, with its use", () => {
    const life = new Life().claim().say("a").say("b").settle(succeeded)
    expect(life.response).toMatchObject({
      id: life.job.id.replace("job_", "resp_"),
      object: "response",
      created_at: 1_700_000_000,
      completed_at: 1_700_000_009,
      status: "completed",
      model: "llm",
      metadata: { a: "b" },
      error: null,
      incomplete_details: null,
      output: [{ type: "message", role: "assistant", status: "completed", content: [{ text: "ab" }] }],
      usage: { input_tokens: 3, output_tokens: 4, total_tokens: 7 },
    })
    expect(Response.jobIdOf(life.response.id)).toBe(life.job.id)
  })

  it("has a status for each state of a job", () => {
    const running = () => new Life().claim()
    const last = (failure: Failure) => running().fail(failure).claim().fail(failure).response
    expect(new Life().response).toMatchObject({ status: "queued", output: [], usage: null })
    expect(running().say("a").response).toMatchObject({ status: "in_progress", output: [{ status: "in_progress" }] })
    expect(running().say("a").fail(exit).response).toMatchObject({
      status: "queued",
      error: null,
      output: [{ status: "incomplete" }],
    })
    expect(last(exit)).toMatchObject({ status: "failed", error: { code: "server_error", message: exit.detail } })
    const limited = toFailure(new LlmRateLimited({ kind: "rate", evidence: "text", stderr: "" }))
    expect(last(limited)).toMatchObject({ status: "failed", error: { code: "rate_limit_exceeded" } })
    const incomplete = { status: "incomplete", error: null, incomplete_details: { reason: "max_output_tokens" } }
    expect(last(toFailure(new LlmOutputTruncated({ command: "x" })))).toMatchObject(incomplete)
    const large = running()
      .say("a")
      .fail(toFailure(new LlmOutputTooLarge({ limitBytes: 1, what: "answer" })))
    expect(large.response).toMatchObject({ ...incomplete, output: [{ status: "incomplete" }] })
    expect(
      running()
        .say("a")
        .settle({ _tag: "Succeeded", output: { truncated: true } }).response,
    ).toMatchObject({
      ...incomplete,
      usage: null,
    })
    expect(new Life().cancel().response).toMatchObject({ status: "cancelled", error: null, output: [] })
    expect(running().cancel().settle({ _tag: "Interrupted" }).response.status).toBe("cancelled")
  })
})

describe("its events", () => {
  it("are numbered from 0, and end with the response", () => {
    const life = new Life().claim().say("a").say("b").settle(succeeded)
    expect(types(life)).toEqual([
      "created",
      "queued",
      "in_progress",
      "output_item.added",
      "content_part.added",
      "output_text.delta",
      "output_text.delta",
      "output_text.done",
      "content_part.done",
      "output_item.done",
      "completed",
    ])
    expect(life.events.map(({ sequence_number }) => sequence_number)).toEqual(life.events.map((_, index) => index))
    expect(life.events.at(-1)?.response).toEqual(life.response)
    expect(life.events.at(-2)?.item).toEqual(life.response.output[0])
  })

  it("are the same however far the job has come", () => {
    const life = new Life()
    const moves = [
      () => life.claim(),
      () => life.say("a"),
      () => life.fail(exit),
      () => life.claim(),
      () => life.say("b"),
      () => life.settle(succeeded),
    ]
    let before: ReadonlyArray<Json> = []
    for (const move of moves) {
      // What `ended` adds is told at the end alone.
      const sofar = told(life, life.log)
      expect(sofar.slice(0, before.length)).toEqual(before)
      before = sofar
      move()
    }
    expect(life.events.slice(0, before.length)).toEqual(before)
  })

  it("tell a second attempt in an item of its own, and the first one's item as incomplete", () => {
    const life = new Life().claim().say("half").fail(exit).claim().say("whole").settle(succeeded)
    const done = life.events.filter(({ type }) => type === "response.output_item.done")
    expect(done).toMatchObject([
      { output_index: 0, item: { status: "incomplete", content: [{ text: "half" }] } },
      { output_index: 1, item: { status: "completed", content: [{ text: "whole" }] } },
    ])
    expect(types(life).filter((type) => type === "in_progress")).toHaveLength(1)
    expect(life.events.at(-1)?.response).toEqual(life.response)
    expect(life.response.output).toEqual([done[1]?.item])
  })

  it("end as the response does, also where there is no text", () => {
    const nothing = new Life().claim().settle(succeeded)
    expect(types(nothing)).toEqual(["created", "queued", "in_progress", "completed"])
    const failed = new Life().claim().fail(exit).claim().say("a").fail(exit)
    expect(failed.events.at(-1)).toMatchObject({ type: "response.failed", response: failed.response })
    const cancelled = new Life().cancel()
    expect(types(cancelled)).toEqual(["created", "queued", "incomplete"])
    expect(cancelled.events.at(-1)?.response).toMatchObject({ status: "cancelled", incomplete_details: null })
  })
})
