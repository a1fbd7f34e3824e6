/**
 * `command`: any program that reads a prompt from its standard input and writes its answer to its standard output.
 */
import type { Input } from "../Job.js"
import { type Adapter, plainText, promptOnly, systemFirst } from "./Adapter.js"
import { byExitCode } from "./Classify.js"

const placeholders: ReadonlyMap<string, (input: Input) => string | undefined> = new Map([
  ["{model}", ({ model }: Input) => model],
  ["{system}", ({ system }: Input) => system],
])

/** Puts fields into their places. A field that the job lacks takes the option before its place with it. */
export const fill = (template: ReadonlyArray<string>, input: Input): ReadonlyArray<string> => {
  const lacks = (arg: string | undefined): boolean =>
    arg !== undefined && placeholders.has(arg) && placeholders.get(arg)?.(input) === undefined
  return template.flatMap((arg, index) =>
    lacks(arg) || (arg.startsWith("-") && lacks(template[index + 1])) ? [] : [placeholders.get(arg)?.(input) ?? arg],
  )
}

/** The adapter of `OFFLOAD_LLM_COMMAND`. */
export const make = ([command, ...template]: readonly [string, ...ReadonlyArray<string>]): Adapter => ({
  name: "command",
  command,
  env: [],
  args: (input) => fill(template, input),
  stdin: template.includes("{system}") ? promptOnly : systemFirst,
  decoder: plainText,
  classify: byExitCode(command),
})
