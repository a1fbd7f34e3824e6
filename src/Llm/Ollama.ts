/**
 * `ollama`: a model on a server of one's own, https://docs.ollama.com/cli.
 */
import { type Adapter, plainText, systemFirst } from "./Adapter.js"
import { byExitCode } from "./Classify.js"

/** `ollama run` takes no default of its own. */
const defaultModel = "llama3.2"

export const ollama: Adapter = {
  name: "ollama",
  command: "ollama",
  env: ["OLLAMA_HOST", "OLLAMA_MODELS"],
  args: ({ model }) => ["run", "--nowordwrap", "--hidethinking", "--", model ?? defaultModel],
  stdin: systemFirst,
  decoder: plainText,
  classify: byExitCode("ollama"),
}
