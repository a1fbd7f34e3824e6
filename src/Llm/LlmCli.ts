/**
 * `llm`: the command line of https://llm.datasette.io. Its usage stands on standard error.
 */
import { count } from "../Job/Plausible.js"
import { type Adapter, option, plainText, promptOnly } from "./Adapter.js"
import { byExitCode } from "./Classify.js"

const used = /Token usage:\s*([\d,]+) input(?:,\s*([\d,]+) output)?/i

const tokens = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : count(Number(text.replaceAll(",", "")))

export const llm: Adapter = {
  name: "llm",
  command: "llm",
  env: ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "LLM_USER_PATH", "LLM_MODEL"],
  args: ({ model, system }) => [
    "prompt",
    "--no-log",
    "--usage",
    ...option("model", model),
    ...option("system", system),
  ],
  stdin: promptOnly,
  decoder: plainText,
  usageIn: (stderr) => {
    const [told, input, output] = used.exec(stderr) ?? []
    return told === undefined ? undefined : { inputTokens: tokens(input), outputTokens: tokens(output) }
  },
  classify: byExitCode("llm"),
}
