import { chmodSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect, Either, Logger } from "effect"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import type { Adapter, Exit } from "../../src/Llm/Adapter.js"
import { adapters, select } from "../../src/Llm/Adapters.js"
import { fill } from "../../src/Llm/Command.js"
import { retryAt } from "../../src/Llm/RetryAt.js"
import { make as makeTranscript } from "../../src/Llm/Transcript.js"
import { resolve } from "../../src/OffloadConfig/Resources.js"
import type { AdapterName, Resource } from "../../src/OffloadConfig.js"
import { type Data, makeData, withLlm } from "./harness.js"

const now = 1_770_000_000_000
const fixtures = new URL("./fixtures/", import.meta.url)

/** What an adapter makes of a standard output that arrives in these chunks, and of an exit. */
const read = (adapter: Adapter, chunks: ReadonlyArray<Uint8Array>, exit: Partial<Exit> = {}) => {
  const pieces: Array<string> = []
  const transcript = makeTranscript({
    decoder: adapter.decoder({ maxLine: 100_000 }),
    maxBytes: 100_000,
    maxRawBytes: 1_000_000,
    maxCostUsd: null,
    onText: (text) => pieces.push(text),
    onUsage: () => {},
    onFinal: () => {},
  })
  for (const chunk of chunks) transcript.push(chunk)
  transcript.end()
  expect(pieces).not.toContain("")
  const { final, usage = adapter.usageIn?.(exit.stderr ?? "") } = transcript.found()
  const input = { prompt: "Say hello." }
  const whole = { input, exitCode: 0, signal: null, stderr: "", maxCostUsd: null, ...exit, final, usage }
  const error = adapter.classify(whole, now)
  // A plain object: what tests compare is the fields.
  const success = { _tag: "Right" as const, ...(usage === undefined ? {} : { usage }) }
  return { text: pieces.join(""), result: error === null ? success : { ...error } }
}

const right = (inputTokens: number, outputTokens: number, costUsd?: number) => ({
  _tag: "Right",
  usage: { inputTokens, outputTokens, ...(costUsd === undefined ? {} : { costUsd }) },
})

/** Of each fixture: the text, the result, and where it matters the exit code. */
const expected: Record<
  "claude" | "codex" | "gemini" | "opencode",
  Record<string, readonly [text: string, result: Record<string, unknown>, exit?: Partial<Exit>]>
> = {
  claude: {
    success: ["Hello, world.", right(123, 42, 0.024)],
    "whole-messages": ["Hello, world.", right(123, 42, 0.024)],
    "tool-use": ["Let me look.\n\nIt is 42.", right(123, 42, 0.024)],
    unicode: ["çà 🙂 🙂 \0 日本", right(123, 42, 0.024)],
    "rate-limit": ["", { _tag: "LlmRateLimited", kind: "quota", retryAfterMillis: 3_600_000, evidence: "structured" }],
    // Without an event that says so it cannot be told from an answer to "repeat this".
    "rate-limit-as-success": ["Claude AI usage limit reached|1770003600", right(123, 42, 0.024)],
    "rejected-as-success": [
      "Claude AI usage limit reached|1770003600",
      { _tag: "LlmRateLimited", kind: "quota", retryAfterMillis: 3_600_000, evidence: "structured" },
    ],
    rate: ["", { _tag: "LlmRateLimited", kind: "rate" }, { exitCode: 1 }],
    overloaded: ["Half an ans", { _tag: "LlmOverloaded" }, { exitCode: 1 }],
    auth: ["", { _tag: "LlmAuth", command: "claude", stderr: "Invalid API key · Please run /login" }, { exitCode: 1 }],
    "max-turns": ["So far", { _tag: "LlmExit", exitCode: 1, stderr: "error_max_turns" }, { exitCode: 1 }],
    truncated: ["Half an ans", { _tag: "LlmOutputTruncated", command: "claude" }],
    intruder: ["An event in the middle. Done.", right(123, 42, 0.024)],
  },
  codex: {
    success: ["Hello, world.", right(24_763, 122)],
    "tool-use": ["Let me look.\n\nIt is 42.", right(24_763, 122)],
    unicode: ["çà 🙂 日本\u2028", right(24_763, 122)],
    reconnected: ["Hello, world.", right(24_763, 122)],
    quota: ["", { _tag: "LlmRateLimited", kind: "quota", retryAfterMillis: 24 * 3_600_000, evidence: "text" }],
    "rate-limit": ["", { _tag: "LlmRateLimited", kind: "rate", retryAfterMillis: 11_054 }, { exitCode: 1 }],
    auth: ["", { _tag: "LlmAuth", command: "codex" }, { exitCode: 1 }],
    truncated: ["Half an answer", { _tag: "LlmOutputTruncated" }],
  },
  gemini: {
    success: ["Hello, world.", right(128, 42)],
    "tool-use": ["Let me look.\n\nIt is 42.", right(128, 42)],
    unicode: ["çà 🙂 日本", right(128, 42)],
    "rate-limit": ["", { _tag: "LlmRateLimited", kind: "quota", retryAfterMillis: 33_500 }, { exitCode: 1 }],
    auth: ["", { _tag: "LlmAuth", command: "gemini" }, { exitCode: 41 }],
    "empty-answer": ["", { _tag: "LlmExit", stderr: "The model returned an empty text response." }, { exitCode: 1 }],
    truncated: ["Half an ans", { _tag: "LlmOutputTruncated" }],
  },
  opencode: {
    success: ["Hello, world.", right(110, 42, 0.01)],
    "tool-use": ["Let me look.\n\nIt is 42.", right(170, 52, 0.03)],
    unicode: ["çà 🙂 日本", right(11, 3, 0)],
    "rate-limit": ["", { _tag: "LlmRateLimited", kind: "concurrency" }],
    auth: ["", { _tag: "LlmAuth", command: "opencode" }],
    unavailable: ["", { _tag: "LlmOverloaded" }, { exitCode: 1 }],
    truncated: ["Let me look.", { _tag: "LlmOutputTruncated" }],
  },
}

describe.each(["claude", "codex", "gemini", "opencode"] as const)("%s", (name) => {
  const adapter = adapters[name]

  it("has an expectation for every fixture", () => {
    const files = readdirSync(new URL(`${name}/`, fixtures)).map((file) => file.replace(".jsonl", ""))
    expect(Object.keys(expected[name]).sort()).toEqual(files.sort())
  })

  it.each(Object.entries(expected[name]))("%s, cut anywhere", (fixture, [text, result, exit]) => {
    const bytes = readFileSync(new URL(`${name}/${fixture}.jsonl`, fixtures))
    const whole = read(adapter, [bytes], exit)
    expect(whole).toMatchObject({ text, result })
    for (let at = 1; at < bytes.length; at++) {
      expect(read(adapter, [bytes.subarray(0, at), bytes.subarray(at)], exit)).toEqual(whole)
    }
    expect(
      read(
        adapter,
        Array.from(bytes, (byte) => Uint8Array.of(byte)),
        exit,
      ),
    ).toEqual(whole)
    // The last line may lack its line feed.
    expect(read(adapter, [bytes.subarray(0, -1)], exit)).toEqual(whole)
  })

  it("is read from its exit where it says nothing", () => {
    const silent = (exit: Partial<Exit>) => read(adapter, [], exit).result
    expect(silent({ exitCode: 1, stderr: "boom" })).toMatchObject({ _tag: "LlmExit", exitCode: 1, stderr: "boom" })
    expect(silent({ exitCode: 143, signal: "SIGTERM" })).toMatchObject({ _tag: "LlmExit", signal: "SIGTERM" })
    expect(silent({ exitCode: 1, stderr: "Error: 401 Unauthorized" })).toMatchObject({ _tag: "LlmAuth" })
    expect(silent({ exitCode: 1, stderr: "HTTP 503 Service Unavailable" })).toMatchObject({ _tag: "LlmOverloaded" })
    expect(silent({})).toMatchObject({ _tag: "LlmOutputTruncated" })
  })

  it("survives whatever is no event of its own", () => {
    const odd = [
      "null",
      "[]",
      '"text"',
      "{}",
      '{"type":"__proto__"}',
      '{"type":"result"',
      "\u0000",
      '{"type":"text","part":null}',
      '{"type":"message","content":7,"role":"assistant"}',
      '{"type":"assistant","message":{"content":{"0":1}}}',
      '{"type":"item.completed","item":[]}',
    ]
    const { text } = read(adapter, [Buffer.from(odd.join("\n"))])
    expect(text).toBe("")
  })

  it("puts no prompt into its arguments, and no value where an option could stand", () => {
    const args = adapter.args({ prompt: "the prompt", model: "--help", system: "--version" }, null)
    expect(args.join(" ")).not.toContain("the prompt")
    expect(args).not.toContain("--help")
    expect(args).not.toContain("--version")
    expect(adapter.stdin({ prompt: "the prompt", system: "the system" })).toContain("the prompt")
    const everything = [...args, adapter.stdin({ prompt: "p", system: "--version" })].join(" ")
    expect(everything).toContain("--version")
  })
})

describe("codex", () => {
  it.each([
    ["unexpected status 403 Forbidden: Country not supported, url: http://127.0.0.1/v1/responses", "LlmAuth"],
    ["unexpected status 402 Payment Required: pay", "LlmRateLimited quota"],
    ["exceeded retry limit, last status: 429 Too Many Requests", "LlmRateLimited rate"],
    ["unexpected status 503 Service Unavailable: unauthorized", "LlmOverloaded"],
    ["Missing environment variable: `OPENAI_API_KEY`.", "LlmAuth"],
    ["We’re currently experiencing high demand, which may cause temporary errors.", "LlmOverloaded"],
    ["Selected model is at capacity. Please try a different model.", "LlmOverloaded"],
    ["To use Codex with your ChatGPT plan, upgrade to Plus: https://chatgpt.com/explore/plus.", "LlmRateLimited quota"],
  ])("says %s", (message, expected) => {
    const line = JSON.stringify({ type: "turn.failed", error: { message } })
    const { result } = read(adapters.codex, [Buffer.from(line)], { exitCode: 1 })
    expect("kind" in result ? `${result._tag} ${result.kind}` : result._tag).toBe(expected)
  })
})

describe("command lines that write plain text", () => {
  it("succeed with their exit code", () => {
    for (const name of ["ollama", "llm", "aichat"] as const) {
      expect(read(adapters[name], [Buffer.from("the answer")])).toEqual({
        text: "the answer",
        result: { _tag: "Right" },
      })
      expect(read(adapters[name], [], { exitCode: 1, stderr: "no" }).result).toMatchObject({
        _tag: "LlmExit",
        stderr: "no",
      })
    }
  })

  it("llm tells its usage on standard error", () => {
    const stderr = "Token usage: 1,024 input, 56 output"
    expect(read(adapters.llm, [Buffer.from("a")], { stderr }).result).toEqual(right(1024, 56))
  })

  it("ollama tells that its server is busy", () => {
    const stderr = "Error: 503 Service Unavailable: server busy, please try again.  maximum pending requests exceeded"
    expect(read(adapters.ollama, [], { exitCode: 1, stderr }).result).toMatchObject({ _tag: "LlmOverloaded" })
  })

  it("ollama takes its model as no option", () => {
    expect(adapters.ollama.args({ prompt: "p", model: "--insecure" }, null).slice(-2)).toEqual(["--", "--insecure"])
  })
})

describe("the words of a complaint", () => {
  const tag = (stderr: string) => {
    const { result } = read(adapters.llm, [], { exitCode: 1, stderr })
    return "kind" in result ? `${result._tag} ${result.kind}` : result._tag
  }
  it.each([
    ["Error code: 429 - Rate limit reached for gpt-4o. Please try again in 1.2s", "LlmRateLimited rate"],
    ["API Error: Rate limit reached", "LlmRateLimited rate"],
    ["429 Too Many Requests", "LlmRateLimited rate"],
    ["You exceeded your current quota, please check your plan and billing details", "LlmRateLimited quota"],
    ["5-hour limit reached ∙ resets 3am", "LlmRateLimited quota"],
    ["Limit reached · resets 1:30pm (Asia/Calcutta)", "LlmRateLimited quota"],
    ["Your credit balance is too low to access the API", "LlmRateLimited quota"],
    ["too many concurrent requests for this model", "LlmRateLimited concurrency"],
    ["Resource has been exhausted (e.g. check quota). RESOURCE_EXHAUSTED", "LlmRateLimited rate"],
    ["Incorrect API key provided: invalid_api_key", "LlmAuth"],
    ["Not logged in. Please run `codex login`", "LlmAuth"],
    ["No key found - add one using 'llm keys set openai'", "LlmAuth"],
    ["overloaded_error: Overloaded", "LlmOverloaded"],
    ["HTTP/1.1 503", "LlmOverloaded"],
    ["Traceback: line 429, in main", "LlmExit"],
    ["processed 503 files, 401 skipped", "LlmExit"],
    ["Segmentation fault", "LlmExit"],
  ])("%s", (stderr, expected) => {
    expect(tag(stderr)).toBe(expected)
  })

  it.each([
    ["Please try again in 20s", 20_000],
    ["try again in 6m0s", 360_000],
    ["try again in 1.5 seconds", 1500],
    ["Retry-After: 30", 30_000],
    ['"retry_after": 7', 7000],
    ["Please retry in 250ms.", 250],
    ["Try again in 2 hours, 5 minutes and 1 second.", 7_501_000],
    ["limit reached|1770000060", 60_000],
    ['{"resets_at":1770000060,"resets_in_seconds":60}', 60_000],
    ["resets at 2026-02-02T02:41:00Z", 60_000],
    ["Retry after 30.", 30_000],
    [`try again in ${"1".repeat(5000)}x`, undefined],
    ["try again later", undefined],
    ["resets 2pm (Asia/Shanghai)", undefined],
  ])("%s", (text, millis) => {
    expect(retryAt(text, now)).toBe(millis === undefined ? undefined : now + millis)
  })

  it.each([
    ["or try again at 12:45 PM.", 12, 45],
    ["5-hour limit reached ∙ resets 3am", 3, 0],
    ["resets at 12 am", 0, 0],
  ])("%s, on the clock of this machine", (text, hour, minute) => {
    const noon = new Date(2026, 5, 1, 12, 0, 0)
    const at = new Date(retryAt(text, noon.getTime()) ?? 0)
    expect([at.getHours(), at.getMinutes()]).toEqual([hour, minute])
    expect(at.getTime() - noon.getTime()).toBeGreaterThan(0)
    expect(at.getTime() - noon.getTime()).toBeLessThan(86_400_000)
    // Just after that time it is not meant for tomorrow.
    expect(retryAt(text, at.getTime() + 1000)).toBe(undefined)
  })
})

describe("placeholders", () => {
  it.each([
    [["-m", "{model}"], { prompt: "p", model: "m" }, ["-m", "m"]],
    [["-m", "{model}"], { prompt: "p" }, []],
    [["run", "{model}", "-s", "{system}", "-x"], { prompt: "p", system: "" }, ["run", "-s", "", "-x"]],
    [["--model={model}", "{prompt}"], { prompt: "p", model: "m" }, ["--model={model}", "{prompt}"]],
    [["{model}", "{system}"], { prompt: "p", model: "{system}", system: "s" }, ["{system}", "s"]],
  ])("%j of %j", (template, input, args) => {
    expect(fill(template, input)).toEqual(args)
  })
})

describe("OFFLOAD_LLM", () => {
  let data: Data
  const path = process.env.PATH
  beforeEach(() => {
    data = makeData()
  })
  afterEach(() => {
    process.env.PATH = path
    data.remove()
  })

  const program = (name: string, script = "#!/bin/sh\ncat\n") => {
    writeFileSync(join(data.files, name), script)
    chmodSync(join(data.files, name), 0o755)
  }

  const { 0: resource } = Either.getOrThrow(
    resolve("", {
      adapter: "auto",
      command: null,
      model: null,
      permits: 2,
      timeoutMillis: 1000,
      maxOutputBytes: 1024,
      env: [],
      folder: null,
      maxCostUsd: null,
      limits: { processes: 1024 },
      user: null,
    }),
  )

  const selected = (adapter: AdapterName, command: Resource["command"] = null) => {
    const lines: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => lines.push(`${logLevel.label} ${message}`))
    const found = Effect.runSync(
      Effect.either(select({ ...resource, adapter, command })).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, logger)),
      ),
    )
    return {
      found: Either.match(found, { onLeft: ({ _tag, message }) => `${_tag}: ${message}`, onRight: ({ name }) => name }),
      lines,
    }
  }

  it("auto takes the command, else the first that is there, else the demo", () => {
    process.env.PATH = data.files
    expect(selected("auto", ["x"]).found).toBe("command")
    expect(selected("auto").found).toBe("demo")
    for (const name of ["aichat", "llm", "opencode", "gemini", "codex", "claude"] as const) {
      program(name)
      expect(selected("auto").found).toBe(name)
    }
  })

  it("warns of a command that is missing, and takes it", () => {
    process.env.PATH = data.files
    expect(selected("codex")).toMatchObject({ found: "codex", lines: [expect.stringContaining("WARN")] })
    program("codex")
    expect(selected("codex")).toMatchObject({ found: "codex", lines: [] })
  })

  it("command without a command is an error at the start", async () => {
    expect(selected("command").found).toMatch(/^LlmConfigError: .*OFFLOAD_LLM_COMMAND/)
    await expect(
      withLlm({ data: data.folder, llm: "command", llmCommand: null }, "group", async () => {}),
    ).rejects.toThrow(/OFFLOAD_LLM_COMMAND/)
  })

  it("runs a command line with its own options, environment and decoder", async () => {
    const fixture = new URL("claude/tool-use.jsonl", fixtures).pathname
    program(
      "claude",
      `#!/bin/sh\n[ "$*" = "-p --output-format stream-json --verbose --include-partial-messages --model=opus" ] || exit 9\n[ "$ANTHROPIC_API_KEY" = key ] && [ "$(/bin/cat)" = hello ] || exit 8\nexec /bin/cat ${fixture}\n`,
    )
    process.env.PATH = `${data.files}:${path}`
    process.env.ANTHROPIC_API_KEY = "key"
    try {
      const answer = await withLlm({ data: data.folder, llm: "auto" }, "auto", ({ call, llm }) => {
        expect([llm.adapter("llm"), llm.command("llm")]).toEqual(["claude", "claude"])
        return call({ input: { prompt: "hello", model: "opus" } })
      })
      expect(answer.text).toBe("Let me look.\n\nIt is 42.")
      expect(answer.result).toMatchObject({ usage: { inputTokens: 123 } })
    } finally {
      delete process.env.ANTHROPIC_API_KEY
    }
  })

  it("demo streams an answer that says what it is", async () => {
    const answer = await withLlm({ data: data.folder, llm: "demo" }, "auto", ({ call }) =>
      call({ input: { prompt: "çà va? 🙂" } }),
    )
    expect(answer.text.split("\n")[0]).toMatch(/demo model.*no LLM/)
    expect(answer.text).toContain("8 characters")
    expect(answer.pieces.length).toBeGreaterThan(30)
    expect(answer.millis).toBeGreaterThan(2000)
    expect(answer.millis).toBeLessThan(6000)
    expect(answer.result).toEqual({ usage: { inputTokens: 3, outputTokens: answer.text.split(/\s+/).length } })
  })

  it("runs a command line whose tool gives 8 MiB in one line, and that goes on after its final event", async () => {
    const codex = { item: (item: unknown) => JSON.stringify({ type: "item.completed", item }) }
    const said = codex.item({ type: "agent_message", text: "Hello." })
    const [before = "", after = ""] = codex.item({ type: "command_execution", aggregated_output: "|" }).split("|")
    const tool = `printf '%s' '${before}'; head -c 8388608 /dev/zero | tr '\\0' a; echo '${after}'`
    program("codex", `#!/bin/sh\n${tool}\necho '${said}'\necho '{"type":"turn.completed"}'\necho '${said}'\n${tool}\n`)
    process.env.PATH = `${data.files}:${path}`
    const answer = await withLlm({ data: data.folder, llm: "codex", maxOutputBytes: 1024 }, "auto", ({ call }) =>
      call(),
    )
    expect(answer).toMatchObject({ text: "Hello.", result: { usage: {} } })
  })

  it("stops an answer in JSON that has no line end, and one that talks of nothing but other things", async () => {
    process.env.PATH = `${data.files}:${path}`
    for (const script of ["exec tr '\\0' a < /dev/zero", 'exec yes \'{"type":"system"}\'']) {
      program("codex", `#!/bin/sh\n${script}\n`)
      const answer = await withLlm({ data: data.folder, llm: "codex", maxOutputBytes: 1024 }, "auto", ({ call }) =>
        call(),
      )
      expect({ ...answer.result }).toMatchObject({ _tag: "LlmOutputTooLarge", what: "output" })
      expect(answer.text).toBe("")
    }
  })
})
