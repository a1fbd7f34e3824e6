/**
 * `opencode`: OpenCode without its terminal, https://opencode.ai/docs/cli.
 *
 * Every line of `--format json` is an event. An answer has one or more steps; the last one does not end in tool calls.
 */
import type { Usage } from "../Job.js"
import { type Adapter, type Complaint, type Event, option, systemFirst } from "./Adapter.js"
import { byFinalEvent } from "./Classify.js"
import { network } from "./Environment.js"
import { at, cost, decoder, number, string, sum, tokens } from "./JsonLines.js"

/** A step that ends for one of these reasons is followed by another. */
const goesOn: ReadonlySet<string> = new Set(["tool-calls", "tool_use"])

const complaintOf = (error: unknown): Complaint => {
  const name = string(error, "name")
  return {
    message: [name, string(error, "data", "message") ?? string(error, "message")]
      .filter((part) => part !== undefined)
      .join(": "),
    kind: name === "ProviderAuthError" ? "auth" : undefined,
    status: number(error, "data", "statusCode"),
  }
}

/** Tools, what they give, and thoughts are no part of the answer. */
const isAnswer = (line: unknown): boolean => ["text", "step_finish", "error"].includes(string(line, "type") ?? "text")

const makeDecoder = (maxLine: number) => {
  let said = false
  let usage: Usage = {}
  /** OpenCode may go on after an error: it counts only where no step ends well after it. */
  let last: Complaint | undefined
  let over = false

  const value = (line: unknown): ReadonlyArray<Event> => {
    switch (string(line, "type")) {
      case "text": {
        const text = string(line, "part", "text") ?? ""
        if (text === "" || at(line, "part", "synthetic") === true) return []
        const gap = said ? "\n\n" : ""
        said = true
        return [{ _tag: "Text", text: gap + text }]
      }
      case "step_finish": {
        const part = at(line, "part")
        usage = {
          inputTokens: sum(
            usage.inputTokens,
            tokens(part, "tokens", "input"),
            tokens(part, "tokens", "cache", "read"),
            tokens(part, "tokens", "cache", "write"),
          ),
          outputTokens: sum(usage.outputTokens, tokens(part, "tokens", "output"), tokens(part, "tokens", "reasoning")),
          costUsd: sum(usage.costUsd, cost(part, "cost")),
        }
        const counted: Event = { _tag: "Usage", usage }
        if (goesOn.has(string(part, "reason") ?? "")) return [counted]
        over = true
        return [counted, { _tag: "Final", complaint: null }]
      }
      case "error":
        last = complaintOf(at(line, "error"))
        return []
      default:
        return []
    }
  }

  const end = (): ReadonlyArray<Event> => (over || last === undefined ? [] : [{ _tag: "Final", complaint: last }])

  return decoder({ value, isAnswer, end }, maxLine)
}

export const opencode: Adapter = {
  name: "opencode",
  command: "opencode",
  env: [
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "GEMINI_API_KEY",
    "OPENROUTER_API_KEY",
    "OPENCODE_API_KEY",
    "OPENCODE_CONFIG",
    "OPENCODE_CONFIG_CONTENT",
    "OPENCODE_CONFIG_DIR",
    ...network,
  ],
  args: ({ model }) => ["run", "--format", "json", ...option("model", model)],
  stdin: systemFirst,
  decoder: ({ maxLine }) => makeDecoder(maxLine),
  classify: byFinalEvent("opencode"),
}
