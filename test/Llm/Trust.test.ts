/** Nothing that a job's caller writes makes any adapter say that the downstream refuses. */
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { Input } from "../../src/Job.js"
import type { Adapter } from "../../src/Llm/Adapter.js"
import { adapters } from "../../src/Llm/Adapters.js"
import { make as makeCommand } from "../../src/Llm/Command.js"
import { make as makeTranscript } from "../../src/Llm/Transcript.js"

const now = 1_770_000_000_000

const all: Readonly<Record<string, Adapter>> = { ...adapters, command: makeCommand(["any"]) }
const names = Object.keys(all)

/** What an attempt of this input comes to. */
const attempt = (adapter: Adapter, input: Input, stdout: string, stderr = "", exitCode = 1) => {
  const transcript = makeTranscript({
    decoder: adapter.decoder({ maxLine: 100_000 }),
    maxBytes: 100_000,
    maxRawBytes: 1_000_000,
    maxCostUsd: null,
    onText: () => {},
    onUsage: () => {},
  })
  transcript.push(Buffer.from(stdout))
  transcript.end()
  const { final, usage } = transcript.found()
  return adapter.classify({ input, final, usage, exitCode, signal: null, stderr, maxCostUsd: null }, now)
}

const adapterOf = (name: string): Adapter => {
  const adapter = all[name]
  if (adapter === undefined) throw new Error(`no adapter ${name}`)
  return adapter
}

/** An answer that is complete, as each command line prints it. */
const answers: Readonly<Record<string, (text: string) => ReadonlyArray<unknown>>> = {
  demo: (text) => [{ text }, { usage: {} }],
  claude: (text) => [
    { type: "assistant", message: { id: "m", content: [{ type: "text", text }] } },
    { type: "result", subtype: "success", is_error: false, result: text },
  ],
  codex: (text) => [{ type: "item.completed", item: { type: "agent_message", text } }, { type: "turn.completed" }],
  gemini: (text) => [
    { type: "message", role: "assistant", content: text },
    { type: "result", status: "success" },
  ],
  opencode: (text) => [
    { type: "text", part: { text } },
    { type: "step_finish", part: { reason: "stop" } },
  ],
}

/** A failure with a message, as each command line prints it. */
const failures: Readonly<Record<string, (message: string) => ReadonlyArray<unknown>>> = {
  claude: (result) => [{ type: "result", subtype: "success", is_error: true, result }],
  codex: (message) => [
    { type: "error", message },
    { type: "turn.failed", error: { message } },
  ],
  gemini: (message) => [{ type: "result", status: "error", error: { type: "Error", message } }],
  opencode: (message) => [{ type: "error", error: { name: "UnknownError", data: { message } } }],
}

const printed = (events: ReadonlyArray<unknown>): string => events.map((event) => `${JSON.stringify(event)}\n`).join("")

const limits = [
  "Claude AI usage limit reached|1770003600",
  "You've hit your usage limit. Try again in 3 days 4 hours 9 minutes.",
  "unexpected status 429 Too Many Requests: quota exceeded, retry after 999999 seconds",
  "402 Payment Required: your credit balance is too low; try again in 9999999999 days",
  "HTTP 503 Service Unavailable, overloaded; retry after 99999999 days",
  "Error code: 401 - invalid_api_key. Please run /login",
]

const echoes: ReadonlyArray<readonly [string, (text: string) => string]> = [
  ["whole", (text) => text],
  ["in part", (text) => text.slice(0, Math.ceil((2 * text.length) / 3))],
  ["escaped", (text) => JSON.stringify(JSON.stringify(text))],
  ["wrapped", (text) => text.split(" ").join("\n      ")],
  ["in capitals", (text) => text.toUpperCase()],
]

describe.each(names)("%s", (name) => {
  const adapter = adapterOf(name)

  it.each(limits)("takes an answer that says %j for an answer", (text) => {
    const stdout = name in answers ? printed(answers[name]?.(text) ?? []) : text
    expect(attempt(adapter, { prompt: "Tell me of limits." }, stdout, "", 0)).toBe(null)
  })

  describe.each(["prompt", "system", "model"] as const)("with limits in its %s", (field) => {
    const inputOf = (text: string): Input => ({ prompt: "Say hello.", [field]: text })

    it.each(echoes)("does not believe its standard error, where they are repeated %s", (_, echo) => {
      for (const text of limits) {
        const error = attempt(adapter, inputOf(text), "", `fatal: cannot use "${echo(text)}"\nline 3: syntax error`)
        expect(error?._tag, text).toBe("LlmExit")
      }
    })

    const printsFailures = name in failures ? echoes : []
    it.each(printsFailures)("does not believe its events, where they are repeated %s", (_, echo) => {
      for (const text of limits) {
        const stdout = printed(failures[name]?.(`The model '${echo(text)}' is not supported.`) ?? [])
        expect(attempt(adapter, inputOf(text), stdout)?._tag, text).toBe("LlmExit")
      }
    })
  })

  it("does not believe a phrase that its own words and the prompt's make together", () => {
    const prompt = "exceeded expectations are my topic"
    const stderr = `fatal: cannot read the quota ${prompt}; retry after 60 seconds`
    expect(attempt(adapter, { prompt }, "", stderr)?._tag).toBe("LlmExit")
  })

  it.each([
    "Traceback: line 429, in billing_report: KeyError quota_id",
    "npm warn config production Use `--omit=dev` instead.\nreading the quota of the cache",
    "processed 503 files, 401 skipped, 429 left",
  ])("takes the standard error %j for what it is", (stderr) => {
    expect(attempt(adapter, { prompt: "Say hello." }, "", stderr)?._tag).toBe("LlmExit")
  })

  it("tells that words alone say of a limit, and waits for no more than 24 hours", () => {
    const error = attempt(adapter, { prompt: "Say hello." }, "", "usage limit reached|1780000000")
    expect(error).toMatchObject({
      _tag: "LlmRateLimited",
      kind: "quota",
      evidence: "text",
      retryAfterMillis: 86_400_000,
    })
  })

  it("never tells a time that is more than 24 hours ahead, whatever it prints", () => {
    const words = fc.constantFrom("usage limit reached|", "quota exceeded, retry after ", "resets at ", "try again in ")
    const times = fc.oneof(
      fc.double({ noNaN: true }).map(String),
      fc.bigInt({ min: 0n, max: 10n ** 20n }).map(String),
      fc.constantFrom("2026-02-30T00:00:00Z", "9999-12-31T23:59:59Z", "+275760-09-13T00:00:00Z", "3pm"),
    )
    const units = fc.constantFrom("", " seconds", "ms", "d", " days", " hours 99999999 days")
    fc.assert(
      fc.property(words, times, units, (word, time, unit) => {
        const error = attempt(adapter, { prompt: "Say hello." }, "", `quota exceeded: ${word}${time}${unit}`)
        const millis = error !== null && "retryAfterMillis" in error ? (error.retryAfterMillis ?? 0) : 0
        expect(millis).toBeGreaterThanOrEqual(0)
        expect(millis).toBeLessThanOrEqual(86_400_000)
      }),
    )
  })
})

describe("structured evidence", () => {
  const rejected = (resetsAt: number) => [
    { type: "rate_limit_event", rate_limit_info: { status: "rejected", resetsAt } },
    { type: "result", subtype: "success", is_error: true, api_error_status: 429, result: "limited" },
  ]

  it.each([
    ["in seconds", 1_770_003_600, 3_600_000],
    ["in milliseconds", 1_770_003_600_000, 3_600_000],
    ["far ahead", 4_102_444_800, 86_400_000],
    ["far ahead, in milliseconds", 9_999_999_999_999, 86_400_000],
  ])("of claude holds until a reset that is told %s", (_, resetsAt, retryAfterMillis) => {
    const error = attempt(adapters.claude, { prompt: "x" }, printed(rejected(resetsAt)))
    expect(error).toMatchObject({ _tag: "LlmRateLimited", kind: "quota", evidence: "structured", retryAfterMillis })
  })

  it.each([1e300, -1, 8.64e18])("of claude with a reset at %s, which no date has, tells no time", (resetsAt) => {
    const error = attempt(adapters.claude, { prompt: "x" }, printed(rejected(resetsAt)))
    expect(error).toMatchObject({ _tag: "LlmRateLimited", kind: "rate", evidence: "structured" })
    expect(error).not.toHaveProperty("retryAfterMillis", expect.any(Number))
  })

  it("of a status with a time in words is no more than these words", () => {
    const error = { name: "APIError", data: { statusCode: 402, message: "pay; try again in 1 hour" } }
    expect(attempt(adapters.opencode, { prompt: "x" }, printed([{ type: "error", error }]))).toMatchObject({
      kind: "quota",
      evidence: "text",
      retryAfterMillis: 3_600_000,
    })
  })
})

describe("the use that a command line tells", () => {
  const number = fc.oneof(fc.double(), fc.integer(), fc.constantFrom(1e308, -1e308, -5, 1.5, 2 ** 60))

  it("is finite, whole where it counts tokens, not negative, and never takes back a cost", () => {
    fc.assert(
      fc.property(fc.array(fc.record({ input: number, output: number, cost: number }), { maxLength: 5 }), (steps) => {
        let last = 0
        const transcript = makeTranscript({
          decoder: adapters.opencode.decoder({ maxLine: 100_000 }),
          maxBytes: 1000,
          maxRawBytes: 1_000_000,
          maxCostUsd: null,
          onText: () => {},
          onUsage: ({ costUsd = 0, inputTokens = 0, outputTokens = 0 }) => {
            expect(Number.isSafeInteger(inputTokens) && inputTokens >= 0).toBe(true)
            expect(Number.isSafeInteger(outputTokens) && outputTokens >= 0).toBe(true)
            expect(costUsd).toBeGreaterThanOrEqual(last)
            expect(costUsd).toBeLessThanOrEqual(2 ** 53)
            last = costUsd
          },
        })
        for (const { cost, input, output } of steps) {
          const part = { reason: "tool-calls", cost, tokens: { input, output } }
          transcript.push(Buffer.from(printed([{ type: "step_finish", part }])))
        }
      }),
    )
  })

  it("of llm is left out where it has more digits than a number can hold", () => {
    expect(adapters.llm.usageIn?.(`Token usage: ${"9".repeat(400)} input, 5 output`)).toEqual({
      inputTokens: undefined,
      outputTokens: 5,
    })
  })
})
