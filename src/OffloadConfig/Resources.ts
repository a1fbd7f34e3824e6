/**
 * The resources of the service: one from the `OFFLOAD_LLM…` settings, or several from `OFFLOAD_RESOURCES`.
 */
import { ConfigError, Either, Schema } from "effect"
import { deliveries, ModelName, ResourceName } from "../Job.js"
import { parseJsonSetting } from "./JsonSetting.js"

/** What runs the jobs of a resource: a command line that is known by name, or a command of the user's own. */
export const AdapterName = Schema.Literal(
  "auto",
  "demo",
  "command",
  "claude",
  "codex",
  "gemini",
  "opencode",
  "ollama",
  "llm",
  "aichat",
)
export type AdapterName = typeof AdapterName.Type

/** An argv: the command and its arguments. */
export const Argv = Schema.NonEmptyArray(Schema.String)

/** The name of an environment variable. */
export const VariableName = Schema.String.pipe(Schema.pattern(/^[A-Za-z_][A-Za-z0-9_]*$/))

const atLeastOne = Schema.Int.pipe(Schema.positive())

/** The most processes and threads of an attempt, where its resource does not say. */
const defaultProcesses = 1024

/** Limits that the system holds an attempt to: each of its processes on its own, but for their number. */
export const Limits = Schema.Struct({
  /** Bytes of address space. */
  memoryBytes: Schema.optional(atLeastOne),
  /** Seconds of processor time. */
  cpuSeconds: Schema.optional(atLeastOne),
  /** Bytes of the largest file that it may write. */
  fileBytes: Schema.optional(atLeastOne),
  /** Open files. */
  openFiles: Schema.optional(atLeastOne),
  /** Processes and threads of the attempt together. By default 1024. See `docs/security.md` for what holds where. */
  processes: Schema.optionalWith(atLeastOne, { default: () => defaultProcesses }),
})
export type Limits = typeof Limits.Type

/** Those of a resource that names none. */
export const defaultLimits: Limits = { processes: defaultProcesses }

/** A resource as `OFFLOAD_RESOURCES` writes it. What is absent is as the `OFFLOAD_…` settings say. */
export const ResourceSettings = Schema.Struct({
  adapter: Schema.optionalWith(AdapterName, { default: () => "auto" }),
  /** The argv of the adapter `command`; of another adapter, what is started in place of its own command. */
  command: Schema.optional(Argv),
  /** The model of jobs that name none. */
  model: Schema.optional(ModelName),
  /** The models that jobs may name. Without it a job may name any. */
  models: Schema.optional(Schema.NonEmptyArray(ModelName)),
  permits: Schema.optional(Schema.Int.pipe(Schema.between(1, 1000))),
  timeoutSeconds: Schema.optional(Schema.Number.pipe(Schema.between(0.1, 86_400))),
  maxOutputBytes: Schema.optional(Schema.Int.pipe(Schema.between(1024, 67_108_864))),
  /** Environment variables that its command may see. */
  env: Schema.optional(Schema.Array(VariableName)),
  /** The folder that its attempts share as their working folder. Without it each has an empty one of its own. */
  folder: Schema.optional(Schema.String.pipe(Schema.startsWith("/"))),
  /** What an attempt may cost, in US dollars, where its command line tells. */
  maxCostUsd: Schema.optional(Schema.Number.pipe(Schema.positive())),
  limits: Schema.optionalWith(Limits, { default: () => defaultLimits }),
  /** The user of the machine that its command runs as. Only a service that runs as root can change users. */
  user: Schema.optional(Schema.String.pipe(Schema.pattern(/^[A-Za-z_][A-Za-z0-9_.-]*\$?$/))),
})

const setting = "OFFLOAD_RESOURCES"

const parse = parseJsonSetting(setting, Schema.Record({ key: ResourceName, value: ResourceSettings }))

/** A downstream with a ceiling: what runs its jobs, and within which limits. Durations are milliseconds. */
export interface Resource {
  readonly name: string
  readonly adapter: AdapterName
  readonly command: readonly [string, ...ReadonlyArray<string>] | null
  readonly model: string | null
  /** The models that jobs may name; `null` where that is any. */
  readonly models: ReadonlyArray<string> | null
  readonly permits: number
  readonly timeoutMillis: number
  readonly maxOutputBytes: number
  readonly env: ReadonlyArray<string>
  readonly folder: string | null
  readonly maxCostUsd: number | null
  readonly limits: Limits
  /** The user that its command runs as; `null`: the service's own. */
  readonly user: string | null
}

/** At least one; the first is that of jobs that name none. */
export type Resources = readonly [Resource, ...ReadonlyArray<Resource>]

/** The resource that the `OFFLOAD_LLM…` settings describe, whose limits are also those that others start from. */
export type Defaults = Omit<Resource, "name" | "models">

/**
 * The resources of a configuration, the default one first: those of `text`, a JSON object from names to resources or
 * the path of a file with one; without it the resource `llm` of the other settings.
 */
export const resolve = (text: string, defaults: Defaults): Either.Either<Resources, ConfigError.ConfigError> => {
  if (text.trim() === "") return Either.right([{ ...defaults, name: "llm", models: null }])
  return Either.flatMap(parse(text), (all) => {
    if (Object.hasOwn(all, deliveries)) {
      return Either.left(ConfigError.InvalidData([setting], `the name '${deliveries}' is that of deliveries`))
    }
    const refused = Object.entries(all).find(
      ([, { model, models }]) => model !== undefined && models?.includes(model) === false,
    )
    if (refused !== undefined) {
      return Either.left(ConfigError.InvalidData([setting], `${refused[0]}: model: it is not among its \`models\``))
    }
    const [first, ...others] = Object.entries(all).map(
      ([name, settings]): Resource => ({
        name,
        adapter: settings.adapter,
        command: settings.command ?? null,
        model: settings.model ?? null,
        models: settings.models ?? null,
        permits: settings.permits ?? defaults.permits,
        timeoutMillis: settings.timeoutSeconds === undefined ? defaults.timeoutMillis : settings.timeoutSeconds * 1000,
        maxOutputBytes: settings.maxOutputBytes ?? defaults.maxOutputBytes,
        env: settings.env ?? defaults.env,
        folder: settings.folder ?? null,
        maxCostUsd: settings.maxCostUsd ?? null,
        limits: settings.limits,
        user: settings.user ?? null,
      }),
    )
    return first === undefined
      ? Either.left(ConfigError.InvalidData([setting], "it names no resource"))
      : Either.right<Resources>([first, ...others])
  })
}
