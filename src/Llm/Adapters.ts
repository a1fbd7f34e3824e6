/**
 * Which adapter a resource has.
 */
import { Effect, Schema } from "effect"
import type { Resource } from "../OffloadConfig.js"
import type { Adapter } from "./Adapter.js"
import { aichat } from "./Aichat.js"
import { claude } from "./Claude.js"
import { codex } from "./Codex.js"
import { make as makeCommand } from "./Command.js"
import type { Argv } from "./Containment.js"
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

type Named = Exclude<Resource["adapter"], "auto" | "command">

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

/** An adapter whose command line is started by another command: of another place, or by way of a launcher. */
const startedBy = ([command, ...first]: Argv, adapter: Adapter): Adapter => ({
  ...adapter,
  command,
  args: (input, maxCostUsd) => [...first, ...adapter.args(input, maxCostUsd)],
})

const choose = ({ adapter: name, command, name: resource }: Resource): Effect.Effect<Adapter, LlmConfigError> => {
  if (name === "auto" || name === "command") {
    if (command !== null) return Effect.succeed(makeCommand(command))
    return name === "auto"
      ? Effect.sync(() => preferred.find(({ command }) => find(command) !== null) ?? demo)
      : new LlmConfigError({
          reason: `The resource '${resource}' has the adapter 'command', but no command: set OFFLOAD_LLM_COMMAND, or \`command\` in OFFLOAD_RESOURCES.`,
        })
  }
  return Effect.succeed(command === null ? adapters[name] : startedBy(command, adapters[name]))
}

const warnUnlessFound = ({ command, name }: Adapter, resource: string): Effect.Effect<void> =>
  find(command) !== null
    ? Effect.void
    : Effect.annotateLogs(Effect.logWarning("a command is not on PATH: its jobs fail as LlmNotFound until it is"), {
        resource,
        adapter: name,
        command,
      })

/** The adapter of a resource. One whose command is missing is taken all the same: it may be installed later. */
export const select = (resource: Resource): Effect.Effect<Adapter, LlmConfigError> =>
  Effect.gen(function* () {
    const adapter = yield* choose(resource)
    yield* warnUnlessFound(adapter, resource.name)
    return adapter
  })
