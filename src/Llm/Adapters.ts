/**
 * Which adapter `OFFLOAD_LLM` means.
 */
import { Effect, Schema } from "effect"
import type { Values } from "../OffloadConfig.js"
import type { Adapter } from "./Adapter.js"
import { aichat } from "./Aichat.js"
import { claude } from "./Claude.js"
import { codex } from "./Codex.js"
import { make as makeCommand } from "./Command.js"
import { demo } from "./Demo.js"
import { find } from "./Executable.js"
import { gemini } from "./Gemini.js"
import { llm } from "./LlmCli.js"
import { ollama } from "./Ollama.js"
import { opencode } from "./Opencode.js"

/** The settings of the LLM do not fit together, or ask for what this machine cannot do. */
export class LlmConfigError extends Schema.TaggedError<LlmConfigError>()("LlmConfigError", {
  reason: Schema.String,
}) {
  override get message(): string {
    return this.reason
  }
}

type Named = Exclude<Values["llm"], "auto" | "command">

/** Every adapter that needs no more than its name. */
export const adapters: Readonly<Record<Named, Adapter>> = {
  demo,
  claude,
  codex,
  gemini,
  opencode,
  ollama,
  llm,
  aichat,
}

/** What `auto` looks for on PATH, in this order. */
const preferred: ReadonlyArray<Adapter> = [claude, codex, gemini, opencode, llm, aichat]

const choose = ({
  llm: name,
  llmCommand,
}: Pick<Values, "llm" | "llmCommand">): Effect.Effect<Adapter, LlmConfigError> => {
  if (llmCommand !== null && (name === "command" || name === "auto")) return Effect.succeed(makeCommand(llmCommand))
  if (name === "command") {
    return new LlmConfigError({ reason: "OFFLOAD_LLM is `command`, but OFFLOAD_LLM_COMMAND names none." })
  }
  return Effect.sync(() =>
    name === "auto" ? (preferred.find(({ command }) => find(command) !== null) ?? demo) : adapters[name],
  )
}

/** The adapter of the settings. One whose command is missing is taken all the same: it may be installed later. */
export const select = (settings: Pick<Values, "llm" | "llmCommand">): Effect.Effect<Adapter, LlmConfigError> =>
  Effect.tap(choose(settings), ({ command, name }) =>
    find(command) !== null
      ? Effect.void
      : Effect.annotateLogs(
          Effect.logWarning("the command of the LLM is not on PATH: jobs fail as LlmNotFound until it is"),
          { adapter: name, command },
        ),
  )
