/**
 * `aichat`: https://github.com/sigoden/aichat.
 */
import { type Adapter, option, plainText, promptOnly } from "./Adapter.js"
import { byExitCode } from "./Classify.js"
import { network } from "./Environment.js"

export const aichat: Adapter = {
  name: "aichat",
  command: "aichat",
  env: [
    "OPENAI_API_KEY",
    "CLAUDE_API_KEY",
    "GEMINI_API_KEY",
    "AICHAT_CONFIG_DIR",
    "AICHAT_ENV_FILE",
    "AICHAT_PLATFORM",
    ...network,
  ],
  args: ({ model, system }) => [...option("model", model), ...option("prompt", system)],
  stdin: promptOnly,
  decoder: plainText,
  classify: byExitCode("aichat"),
}
