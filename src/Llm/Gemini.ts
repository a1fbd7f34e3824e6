/**
 * `gemini`: Gemini CLI without its terminal, https://geminicli.com/docs/cli/headless.
 *
 * Every line of `--output-format stream-json` is an event; `result` is the last.
 */
import { type Adapter, type Event, option, systemFirst } from "./Adapter.js"
import { byFinalEvent, type ExitCodes } from "./Classify.js"
import { network } from "./Environment.js"
import { at, decoder, string, tokens } from "./JsonLines.js"

const codes: ExitCodes = { 41: { kind: "auth" } }

/** Tools, what they give, and the prompt, which is repeated, are no part of the answer. */
const isAnswer = (line: unknown): boolean => {
  const type = string(line, "type") ?? "message"
  return type === "result" || (type === "message" && (string(line, "role") ?? "assistant") === "assistant")
}

const makeDecoder = (maxLine: number) => {
  let said = false
  let interrupted = false
  /** Of an `error` event: its words are better than those of a `result` without any. */
  let last: string | undefined

  const value = (line: unknown): ReadonlyArray<Event> => {
    switch (string(line, "type")) {
      case "message": {
        const text = string(line, "content") ?? ""
        if (string(line, "role") !== "assistant" || text === "") return []
        const gap = said && interrupted ? "\n\n" : ""
        said = true
        interrupted = false
        return [{ _tag: "Text", text: gap + text }]
      }
      case "tool_use":
        interrupted = true
        return []
      case "error":
        if (string(line, "severity") === "error") last = string(line, "message")
        return []
      case "result": {
        const failed = string(line, "status") !== "success"
        return [
          {
            _tag: "Usage",
            usage: {
              inputTokens: tokens(line, "stats", "input_tokens"),
              outputTokens: tokens(line, "stats", "output_tokens"),
            },
          },
          { _tag: "Final", complaint: failed ? { message: complaintOf(at(line, "error")) } : null },
        ]
      }
      default:
        return []
    }
  }

  const complaintOf = (error: unknown): string =>
    [string(error, "type"), string(error, "message") ?? last].filter((part) => part !== undefined).join(": ")

  return decoder({ value, isAnswer }, maxLine)
}

export const gemini: Adapter = {
  name: "gemini",
  command: "gemini",
  env: [
    "GEMINI_API_KEY",
    "GEMINI_MODEL",
    "GEMINI_CLI_TRUST_WORKSPACE",
    "GOOGLE_API_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_LOCATION",
    "GOOGLE_GENAI_USE_VERTEXAI",
    "GOOGLE_GENAI_USE_GCA",
    ...network,
  ],
  args: ({ model }) => ["--output-format", "stream-json", ...option("model", model)],
  stdin: systemFirst,
  decoder: ({ maxLine }) => makeDecoder(maxLine),
  classify: byFinalEvent("gemini", codes),
}
