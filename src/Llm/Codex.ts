/**
 * `codex`: Codex without its terminal, https://developers.openai.com/codex/noninteractive.
 *
 * Every line of `--json` is an event: `item.completed` holds whole messages, `turn.completed` or `turn.failed` ends.
 */
import { type Adapter, type Complaint, type Event, option, systemFirst } from "./Adapter.js"
import { byFinalEvent } from "./Classify.js"
import { network } from "./Environment.js"
import { decoder, string, tokens } from "./JsonLines.js"

/** `unexpected status 403 Forbidden: …` and `last status: 429 Too Many Requests`: before the provider's own words. */
const statusIn = /\bstatus:? (\d{3})\b/

const complaint = (message: string): Complaint => ({
  message,
  kind: message.startsWith("Missing environment variable") ? "auth" : undefined,
  statusIn,
})

/** Commands, their output and thoughts are no part of the answer. */
const isAnswer = (line: unknown): boolean => {
  const type = string(line, "type") ?? ""
  if (type === "item.started" || type === "item.updated") return false
  return type !== "item.completed" || (string(line, "item", "type") ?? "agent_message") === "agent_message"
}

const makeDecoder = (maxLine: number) => {
  let said = false
  /** An `error` may be a retry that works in the end: it counts only where no turn ends after it. */
  let last: Complaint | undefined
  let over = false

  const end = (complaint: Complaint | null): Event => {
    over = true
    return { _tag: "Final", complaint }
  }

  const value = (line: unknown): ReadonlyArray<Event> => {
    switch (string(line, "type")) {
      case "item.completed": {
        const text = string(line, "item", "text") ?? ""
        if (string(line, "item", "type") !== "agent_message" || text === "") return []
        const gap = said ? "\n\n" : ""
        said = true
        return [{ _tag: "Text", text: gap + text }]
      }
      case "turn.completed":
        return [
          {
            _tag: "Usage",
            usage: {
              inputTokens: tokens(line, "usage", "input_tokens"),
              outputTokens: tokens(line, "usage", "output_tokens"),
            },
          },
          end(null),
        ]
      case "turn.failed":
        return [end(complaint(string(line, "error", "message") ?? last?.message ?? ""))]
      case "error":
        last = complaint(string(line, "message") ?? "")
        return []
      default:
        return []
    }
  }

  return decoder({ value, isAnswer, end: () => (over || last === undefined ? [] : [end(last)]) }, maxLine)
}

export const codex: Adapter = {
  name: "codex",
  command: "codex",
  env: ["OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_API_KEY", "CODEX_HOME", ...network],
  args: ({ model }) => [
    "exec",
    "--json",
    "--ephemeral",
    "--skip-git-repo-check",
    "--sandbox",
    "read-only",
    ...option("model", model),
    "-",
  ],
  stdin: systemFirst,
  decoder: ({ maxLine }) => makeDecoder(maxLine),
  classify: byFinalEvent("codex"),
}
