import { describe, expect, it } from "vitest"
import { adapters } from "../../src/Llm/Adapters.js"
import { parseBeginning } from "../../src/Llm/JsonLines.js"
import { make } from "../../src/Llm/Transcript.js"

type Name = "claude" | "codex" | "gemini" | "opencode"
const names: ReadonlyArray<Name> = ["claude", "codex", "gemini", "opencode"]

const json = (value: unknown): string => `${JSON.stringify(value)}\n`

const lines: Record<
  Name,
  { readonly text: (text: string) => string; readonly tool: (output: string) => string; readonly final: string }
> = {
  claude: {
    text: (text) =>
      json({ type: "stream_event", event: { type: "content_block_delta", delta: { type: "text_delta", text } } }),
    tool: (content) =>
      json({ type: "user", message: { role: "user", content: [{ type: "tool_result", tool_use_id: "t", content }] } }),
    final: json({ type: "result", subtype: "success", is_error: false, result: "", usage: { input_tokens: 1 } }),
  },
  codex: {
    text: (text) => json({ type: "item.completed", item: { id: "i", type: "agent_message", text } }),
    tool: (aggregated_output) =>
      json({ type: "item.completed", item: { id: "i", type: "command_execution", command: "ls", aggregated_output } }),
    final: json({ type: "turn.completed", usage: { input_tokens: 1 } }),
  },
  gemini: {
    text: (content) => json({ type: "message", role: "assistant", content, delta: true }),
    tool: (output) => json({ type: "tool_result", tool_id: "t", status: "success", output }),
    final: json({ type: "result", status: "success", stats: { input_tokens: 1 } }),
  },
  opencode: {
    text: (text) => json({ type: "text", part: { type: "text", text } }),
    tool: (output) => json({ type: "tool_use", part: { type: "tool", state: { status: "completed", output } } }),
    final: json({ type: "step_finish", part: { reason: "stop", tokens: { input: 1 } } }),
  },
}

/** What a transcript makes of a standard output in chunks of 64 KiB, as pipes give them. */
const read = (
  name: Name,
  output: string,
  limits: { readonly maxBytes?: number; readonly maxRawBytes?: number } = {},
) => {
  const { maxBytes = 1024, maxRawBytes = 2 ** 25 } = limits
  let text = ""
  const finals: Array<string> = []
  const transcript = make({
    decoder: adapters[name].decoder({ maxLine: 4 * maxBytes + 2 ** 22 }),
    maxBytes,
    maxRawBytes,
    maxCostUsd: null,
    onText: (piece) => {
      text += piece
    },
    onUsage: () => {},
    onFinal: () => finals.push(text),
  })
  const bytes = Buffer.from(output)
  let wantsMore = true
  for (let at = 0; wantsMore && at < bytes.length; at += 65_536)
    wantsMore = transcript.push(bytes.subarray(at, at + 65_536))
  transcript.end()
  return { ...transcript.found(), text, finals, wantsMore }
}

describe.each(names)("the transcript of %s", (name) => {
  const { final, text, tool } = lines[name]
  const mebibytes = 8 * 2 ** 20

  it("leaves out a tool's result of 8 MiB in one line, which is no part of the answer", () => {
    const found = read(name, text("Hello.") + tool('x"'.repeat(mebibytes / 2)) + final)
    expect(found).toMatchObject({ text: "Hello.", final: null, tooLarge: null, usage: { inputTokens: 1 } })
  })

  it("leaves out a line of 8 MiB that is no event at all", () => {
    const found = read(name, `${text("Hello.")}${"warning ".repeat(mebibytes / 8)}\n${final}`)
    expect(found).toMatchObject({ text: "Hello.", final: null, tooLarge: null })
  })

  it("says that the answer is too large where the long line is a part of it", () => {
    const found = read(name, text("Hello.") + text("x".repeat(mebibytes)) + final)
    expect(found).toMatchObject({ tooLarge: { what: "answer", limitBytes: 1024 }, wantsMore: false })
    expect(found.final).toBe(undefined)
  })

  it("reports no success where the final event is in a line that is too long", () => {
    const long = final.replace("{", `{"padding":"${"x".repeat(mebibytes)}",`)
    const found = read(name, text("Hello.") + long)
    expect(found).toMatchObject({ final: undefined, tooLarge: { what: "answer" } })
  })

  it("takes nothing after the final event, however much it is, and wants no end of it", () => {
    const found = read(name, text("Hello.") + final + text("More.") + tool("x".repeat(mebibytes)) + final, {
      maxRawBytes: 2 ** 20,
    })
    expect(found).toMatchObject({ text: "Hello.", final: null, tooLarge: null, wantsMore: true })
  })

  it("tells once, after the answer, that the final event was there", () => {
    expect(read(name, text("Hello.") + final + final).finals).toEqual(["Hello."])
    expect(read(name, text("Hello.")).finals).toEqual([])
  })

  it("ends a flood that is no answer, and says that it was all of the output that was too large", () => {
    const found = read(name, tool("x".repeat(1000)).repeat(2000), { maxRawBytes: 2 ** 20 })
    expect(found).toMatchObject({ tooLarge: { what: "output", limitBytes: 2 ** 20 }, wantsMore: false })
  })
})

describe("OpenCode", () => {
  it("may go on after an error: the error counts where nothing ends well after it", () => {
    const { final, text } = lines.opencode
    const error = json({ type: "error", error: { name: "APIError", data: { message: "no", statusCode: 500 } } })
    expect(read("opencode", error + text("Hello.") + final)).toMatchObject({ text: "Hello.", final: null })
    expect(read("opencode", text("Hello.") + error).final).toMatchObject({ status: 500 })
  })
})

describe("the beginning of an object", () => {
  const whole = { type: "a", list: [1, { deep: 'q"\\\u00e9[{' }, "s"], last: { text: "x,}{" } }

  it("has the members that are complete, wherever it is cut", () => {
    const text = JSON.stringify(whole)
    for (let at = 1; at <= text.length; at++) {
      const found = parseBeginning(text.slice(0, at))
      expect(found, text.slice(0, at)).not.toBe(undefined)
      if (at > 12) expect(found).toMatchObject({ type: "a" })
    }
    expect(parseBeginning(text)).toEqual(whole)
  })

  it("is nothing where there is no object", () => {
    expect(["", "plain", "[1,2", '"{'].map(parseBeginning)).toEqual([undefined, undefined, undefined, undefined])
  })
})
