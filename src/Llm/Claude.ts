/**
 * `claude`: Claude Code without its terminal, https://code.claude.com/docs/en/headless.
 *
 * Every line of `--output-format stream-json` is an event. With `--include-partial-messages` the text comes in deltas
 * first, and once more in whole `assistant` messages, which count only where there were no deltas.
 */
import { momentOf } from "../Job/Plausible.js"
import type { Usage } from "../Job.js"
import { type Adapter, type Complaint, type ComplaintKind, type Event, option, promptOnly } from "./Adapter.js"
import { byFinalEvent } from "./Classify.js"
import { network } from "./Environment.js"
import { array, at, cost, decoder, number, parse, string, sum, tokens } from "./JsonLines.js"

/** The `error` of a message that Claude Code wrote itself, in place of an answer. */
const kinds: ReadonlyMap<string, ComplaintKind> = new Map([
  ["authentication_failed", "auth"],
  ["billing_error", "quota"],
  ["rate_limit", "rate"],
  ["overloaded", "overloaded"],
  ["server_error", "overloaded"],
])

/**
 * What stands in place of an answer when a subscription is used up, even with `is_error: false`. An answer may say the
 * same, so that it counts only beside an event that says that the request was rejected.
 */
const usedUp =
  /^[^\n]{0,80}(?:usage limit reached|hit your (?:\w+ )?limit|limit reached ?(?:\||. ?resets))[^\n]{0,120}$/i

/** Some versions write this event into the middle of another one's line. */
const intruder = '{"type":"rate_limit_event"'

const usageOf = (result: unknown): Usage => ({
  inputTokens: sum(
    tokens(result, "usage", "input_tokens"),
    tokens(result, "usage", "cache_creation_input_tokens"),
    tokens(result, "usage", "cache_read_input_tokens"),
  ),
  outputTokens: tokens(result, "usage", "output_tokens"),
  costUsd: cost(result, "total_cost_usd"),
})

const makeDecoder = (maxLine: number) => {
  /** The message that deltas belong to, and all that had some. */
  let current: string | undefined
  const streamed = new Set<string>()
  let said = false
  let blockEnded = false
  /** Of a message that stands in place of an answer. */
  let kind: ComplaintKind | undefined
  /** A limit is passed; when it ends. */
  let rejected = false
  let retryAt: number | undefined
  let broken: string | undefined

  const say = (text: string): ReadonlyArray<Event> => {
    if (text === "") return []
    // What was said before a tool was used is a paragraph of its own.
    const gap = said && blockEnded ? "\n\n" : ""
    said = true
    blockEnded = false
    return [{ _tag: "Text", text: gap + text }]
  }

  const onStream = (event: unknown): ReadonlyArray<Event> => {
    const type = string(event, "type")
    if (type === "message_start") current = string(event, "message", "id")
    if (type === "content_block_start" || type === "message_stop") blockEnded = true
    if (type !== "content_block_delta" || string(event, "delta", "type") !== "text_delta") return []
    if (current !== undefined) streamed.add(current)
    return say(string(event, "delta", "text") ?? "")
  }

  const onMessage = (message: unknown): ReadonlyArray<Event> => {
    if (streamed.has(string(message, "id") ?? "")) return []
    return array(message, "content").flatMap((block) => {
      blockEnded = true
      return string(block, "type") === "text" ? say(string(block, "text") ?? "") : []
    })
  }

  const complaintOf = (result: unknown): Complaint | null => {
    const text = string(result, "result") ?? ""
    const subtype = string(result, "subtype") ?? "success"
    const exhausted = rejected && usedUp.test(text)
    const failed = at(result, "is_error") === true || subtype !== "success" || (kind !== undefined && !said)
    if (!failed && !exhausted) return null
    const errors = array(result, "errors").filter((error) => typeof error === "string")
    const message = [text, ...errors].filter((part) => part !== "").join("\n")
    return {
      message: message === "" ? subtype : message,
      // A limit that says when it ends is a quota, whatever else it is called.
      kind:
        subtype === "error_max_budget_usd"
          ? "budget"
          : exhausted || (retryAt !== undefined && (kind ?? "rate") === "rate")
            ? "quota"
            : kind,
      status: number(result, "api_error_status"),
      retryAt,
    }
  }

  const onResult = (result: unknown): ReadonlyArray<Event> => {
    const complaint = complaintOf(result)
    const text = complaint === null && !said ? say(string(result, "result") ?? "") : []
    return [...text, { _tag: "Usage", usage: usageOf(result) }, { _tag: "Final", complaint }]
  }

  const value = (line: unknown): ReadonlyArray<Event> => {
    const type = string(line, "type")
    if (type === "result") return onResult(line)
    if (type === "rate_limit_event" && string(line, "rate_limit_info", "status") === "rejected") {
      rejected = true
      retryAt = momentOf(number(line, "rate_limit_info", "resetsAt"))
    }
    // What a subagent says is said to its agent.
    if (string(line, "parent_tool_use_id") !== undefined) return []
    if (type === "stream_event") return onStream(at(line, "event"))
    if (type !== "assistant") return []
    const error = string(line, "error")
    if (error === undefined) return onMessage(at(line, "message"))
    kind = kinds.get(error) ?? kind
    return []
  }

  const other = (line: string): ReadonlyArray<Event> => {
    if (broken !== undefined) {
      const mended = parse(broken + line)
      broken = undefined
      return mended === undefined ? [] : value(mended)
    }
    const start = line.indexOf(intruder)
    const event = start > 0 ? parse(line.slice(start)) : undefined
    if (event === undefined) return []
    broken = line.slice(0, start)
    return value(event)
  }

  /** What tools are given and give, thoughts, and messages whose text came in deltas are no part of the answer. */
  const isAnswer = (line: unknown): boolean => {
    switch (string(line, "type") ?? "result") {
      case "result":
        return true
      case "assistant":
        return !streamed.has(string(line, "message", "id") ?? "")
      case "stream_event":
        return (string(line, "event", "delta", "type") ?? "text_delta") === "text_delta"
      default:
        return false
    }
  }

  return decoder({ value, other, isAnswer }, maxLine)
}

export const claude: Adapter = {
  name: "claude",
  command: "claude",
  env: [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_CUSTOM_HEADERS",
    "ANTHROPIC_MODEL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CONFIG_DIR",
    ...network,
  ],
  args: ({ model, system }, maxCostUsd) => [
    "-p",
    "--output-format",
    "stream-json",
    "--verbose",
    "--include-partial-messages",
    ...option("model", model),
    ...option("append-system-prompt", system),
    ...option("max-budget-usd", maxCostUsd?.toString()),
  ],
  stdin: promptOnly,
  decoder: ({ maxLine }) => makeDecoder(maxLine),
  classify: byFinalEvent("claude"),
}
