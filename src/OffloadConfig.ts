/**
 * Every setting: its name, what it means, what it takes, its unit and its default. Nothing else reads the
 * environment for a setting. The README's table is generated from here (`npm run generate`).
 */
import { resolve } from "node:path"
import { Config, ConfigError, ConfigProvider, Context, Effect, Either, Layer, Option, Redacted, Schema } from "effect"
import { fileOf, type KnownCaller, resolve as resolveKeys } from "./OffloadConfig/Keys.js"
import {
  AdapterName,
  Argv,
  defaultLimits,
  type Resources,
  resolve as resolveResources,
  VariableName,
} from "./OffloadConfig/Resources.js"
import { secretFiles, secretText, secretTextOrPath, telemetrySecrets } from "./OffloadConfig/Secret.js"
import { shares } from "./OffloadConfig/Shares.js"
import { AllowedHost, NameServer, Secrets, Waits } from "./OffloadConfig/Webhooks.js"

export { digestOf, type KnownCaller, resolve as resolveKeys } from "./OffloadConfig/Keys.js"
export { type AdapterName, defaultLimits, type Limits, type Resource } from "./OffloadConfig/Resources.js"

/** How a setting is documented. */
export interface Documentation {
  readonly name: string
  /** What it means. */
  readonly doc: string
  /** What a value looks like, its unit included. */
  readonly takes: string
  /** As it would be written in the environment. */
  readonly default: string
  /**
   * Whether it can hold a secret. `NAME_FILE` names a file with it then, and the service takes `NAME` out of its
   * environment once it is read. `or-path`: the setting takes the path of a file itself, too.
   */
  readonly secret?: "text" | "or-path"
}

/** One setting, as it is read and documented. */
export type Setting<A> = Config.Config<A> & { readonly documentation: Documentation }

const setting = <A, I extends string>(
  name: string,
  { schema, ...rest }: Omit<Documentation, "name"> & { readonly schema: Schema.Schema<A, I> },
): Setting<A> => {
  const decode = Schema.decodeUnknownEither(schema)
  const config = textOf(name, rest.secret).pipe(
    Config.mapOrFail((found) => {
      const { setting, text } = Option.getOrElse(found, () => ({ setting: name, text: rest.default }))
      // The value is not repeated: it may be a secret that was put into the wrong setting.
      return Either.mapLeft(decode(text), () => ConfigError.InvalidData([setting], `it takes ${rest.takes}`))
    }),
  )
  return Object.assign(config, { documentation: { name, ...rest } })
}

const textOf = (name: string, secret: Documentation["secret"]) => {
  switch (secret) {
    case "text":
      return secretText(name)
    case "or-path":
      return secretTextOrPath(name)
    case undefined:
      return Config.map(
        Config.option(Config.string(name)),
        Option.map((text) => ({ setting: name, text })),
      )
  }
}

const integer = (min: number, max: number) =>
  Schema.compose(Schema.NumberFromString, Schema.Int.pipe(Schema.between(min, max)))

/** Read in seconds, kept in milliseconds. */
const seconds = (min: number, max: number) =>
  Schema.transform(
    Schema.compose(Schema.NumberFromString, Schema.Number.pipe(Schema.between(min, max))),
    Schema.Number,
    { strict: true, decode: (value) => Math.round(value * 1000), encode: (value) => value / 1000 },
  )

/** The addresses at which a machine reaches none but itself. */
const loopback: ReadonlyArray<string> = ["127.0.0.1", "::1", "localhost"]

const listOf = <A extends string>(item: Schema.Schema<A, string>) =>
  Schema.transform(Schema.String, Schema.Array(item), {
    strict: true,
    decode: (text) =>
      text
        .split(",")
        .map((name) => name.trim())
        .filter((name) => name !== ""),
    encode: (names) => names.join(","),
  })

/** A number, or no limit. */
const orNone = <I extends string>(schema: Schema.Schema<number, I>) =>
  Schema.Union(
    Schema.transform(Schema.Literal("none", ""), Schema.Null, {
      strict: true,
      decode: () => null,
      encode: () => "none" as const,
    }),
    schema,
  )

/** A number, no limit, or a share of the whole. */
const orAuto = <I extends string>(schema: Schema.Schema<number, I>) =>
  Schema.Union(
    Schema.transform(Schema.Literal("auto", ""), Schema.Literal("auto"), {
      strict: true,
      decode: () => "auto" as const,
      encode: () => "auto" as const,
    }),
    orNone(schema),
  )

/** All of them, in the order of the README's table. */
export const settings = {
  host: setting("HOST", {
    doc: "The address to listen on. Without `OFFLOAD_API_KEYS` the service answers its own machine alone.",
    takes: "an address; without keys a loopback address: `127.0.0.1`, `::1` or `localhost`",
    default: "127.0.0.1",
    schema: Schema.NonEmptyString,
  }),
  port: setting("PORT", {
    doc: "The port to listen on; `0` takes a free one, which the log names.",
    takes: "a port, 0 to 65535",
    default: "3000",
    schema: integer(0, 65_535),
  }),
  apiKeys: setting("OFFLOAD_API_KEYS", {
    doc: "Who may call, as `Authorization: Bearer` says; each caller sees its own jobs alone. See `docs/http.md`.",
    takes: 'a JSON object such as `{"alice":{"keys":["sha256:…"],"admin":true}}`, or the path of a file with one',
    default: "",
    secret: "or-path",
    schema: Schema.String,
  }),
  hosts: setting("OFFLOAD_HOSTS", {
    doc: "The names that a request's `Host` may have, beside the loopback names. Any, where there are keys and this is empty.",
    takes: "names, with commas between them",
    default: "",
    schema: listOf(Schema.String.pipe(Schema.pattern(/^[A-Za-z0-9._:[\]-]+$/))),
  }),
  corsOrigins: setting("OFFLOAD_CORS_ORIGINS", {
    doc: "The origins whose web pages may call the service.",
    takes: "origins such as `https://example.com`, with commas between them",
    default: "",
    schema: listOf(Schema.String.pipe(Schema.pattern(/^https?:\/\/[^/\s]+$/))),
  }),
  data: setting("OFFLOAD_DATA", {
    doc: "The folder of the embedded store, and of outcomes that no store took. One service at a time can use it; with `REDIS_URL`, several processes of one machine may.",
    takes: "a path; it is made, readable to its owner alone, if it does not exist",
    default: ".offload",
    schema: Schema.NonEmptyString,
  }),
  redisUrl: setting("REDIS_URL", {
    doc: "The Redis that keeps the jobs, in place of the embedded store. See `docs/redis.md`.",
    takes:
      "`redis://…`, `rediss://…`, `redis+cluster://a:6379,b:6379`, `redis+sentinel://a:26379,b:26379/name`, or nothing",
    default: "",
    secret: "text",
    schema: Schema.transform(
      Schema.String.pipe(Schema.pattern(/^$|^rediss?(\+(cluster|sentinel))?:\/\/\S+$/)),
      Schema.Redacted(Schema.String),
      {
        strict: true,
        decode: (url) => url,
        encode: (url) => url,
      },
    ),
  }),
  redisPrefix: setting("OFFLOAD_REDIS_PREFIX", {
    doc: "What each key in Redis begins with. All processes with the same one share the jobs.",
    takes: "a text with a hash tag, such as `{offload}:`, so that all keys are in one slot of a cluster",
    default: "{offload}:",
    schema: Schema.String.pipe(Schema.pattern(/^[^{}]*\{[^{}]+\}[^{}]*$/)),
  }),
  redisEviction: setting("OFFLOAD_REDIS_EVICTION", {
    doc: "Whether a Redis may be used whose `maxmemory-policy` throws keys away, and jobs with them.",
    takes: "`refuse` or `allow`",
    default: "refuse",
    schema: Schema.Literal("refuse", "allow"),
  }),
  role: setting("OFFLOAD_ROLE", {
    doc: "What this process does of the service, with `REDIS_URL`: `api` answers calls and runs no job, `worker` runs jobs and answers only health checks and metrics.",
    takes: "`all`, `api` or `worker`; without `REDIS_URL` only `all`",
    default: "all",
    schema: Schema.Literal("all", "api", "worker"),
  }),
  lease: setting("OFFLOAD_LEASE_SECONDS", {
    doc: "After how long without a sign of it a process is taken for dead by the others that share its Redis, and its jobs run elsewhere. The same for all of them. See `docs/fleet.md`.",
    takes: "seconds, 1 to 300",
    default: "5",
    schema: seconds(1, 300),
  }),
  llm: setting("OFFLOAD_LLM", {
    doc: "What runs the jobs of the resource `llm`. `auto`: `command` where `OFFLOAD_LLM_COMMAND` is set, else the first of `claude`, `codex`, `gemini`, `opencode`, `llm`, `aichat` on PATH, else `demo`.",
    takes: "`auto`, `demo`, `command`, `claude`, `codex`, `gemini`, `opencode`, `ollama`, `llm` or `aichat`",
    default: "auto",
    schema: AdapterName,
  }),
  llmCommand: setting("OFFLOAD_LLM_COMMAND", {
    doc: "The command of the adapter `command`, started without a shell in an empty folder, so that its paths are absolute. The prompt goes to its standard input; its standard output is the answer. An argument that is `{model}` or `{system}` becomes that field of the job. With another adapter: what is started in place of its own command.",
    takes: 'a JSON array of strings, such as `["my-llm","--model","{model}"]`, or nothing',
    default: "",
    schema: Schema.Union(
      Schema.transform(Schema.Literal(""), Schema.Null, {
        strict: true,
        decode: () => null,
        encode: () => "" as const,
      }),
      Schema.parseJson(Argv),
    ),
  }),
  llmEnv: setting("OFFLOAD_LLM_ENV", {
    doc: "Environment variables that the command may see, beside `PATH`, `HOME`, the locale and those that its adapter documents.",
    takes: "names, with commas between them",
    default: "",
    schema: listOf(VariableName),
  }),
  permits: setting("OFFLOAD_PERMITS", {
    doc: "How many jobs of the resource `llm` run at once. `PATCH /resources/llm` changes it until the next start.",
    takes: "a whole number, 1 to 1000",
    default: "2",
    schema: integer(1, 1000),
  }),
  resources: setting("OFFLOAD_RESOURCES", {
    doc: "Several resources, instead of the one `llm`; the first is that of jobs that name none. See `docs/llm.md`.",
    takes: "a JSON object from names to resources, the path of a file with one, or nothing",
    default: "",
    schema: Schema.String,
  }),
  maxQueued: setting("OFFLOAD_MAX_QUEUED", {
    doc: "How many jobs of a resource may wait. A submission above it is answered 429.",
    takes: "a whole number, 1 to 10000000",
    default: "100000",
    schema: integer(1, 10_000_000),
  }),
  maxQueuedPerCaller: setting("OFFLOAD_MAX_QUEUED_PER_CALLER", {
    doc: "How many jobs of a caller may wait, of all resources together. A submission above it is answered 429. `auto`: with keys half of `OFFLOAD_MAX_QUEUED`, at least 100.",
    takes: "a whole number, 1 to 10000000, `auto`, or `none` for no limit",
    default: "auto",
    schema: orAuto(integer(1, 10_000_000)),
  }),
  maxStoreBytes: setting("OFFLOAD_MAX_STORE_BYTES", {
    doc: "How many bytes of jobs are kept: their input, metadata and output, of those that have ended too, until they are removed. A submission above it is answered 503 `store-full`, and so is one that the disk has no room for. Jobs of an earlier version are not counted, nor is anything where Redis may throw keys away.",
    takes: "a whole number from 1000000 on, or `none` for no limit",
    default: "10737418240",
    schema: orNone(integer(1_000_000, Number.MAX_SAFE_INTEGER)),
  }),
  maxBytesPerCaller: setting("OFFLOAD_MAX_BYTES_PER_CALLER", {
    doc: "How many bytes of a caller's jobs are kept. A submission above it is answered 429 `too-many-bytes`. `auto`: with keys half of `OFFLOAD_MAX_STORE_BYTES`.",
    takes: "a whole number from 1000000 on, `auto`, or `none` for no limit",
    default: "auto",
    schema: orAuto(integer(1_000_000, Number.MAX_SAFE_INTEGER)),
  }),
  maxRunningPerCaller: setting("OFFLOAD_MAX_RUNNING_PER_CALLER", {
    doc: "How many jobs of a caller may run at once on a resource; others take their turn before. Without a limit callers share the permits in turns, and one that is alone has all of them.",
    takes: "a whole number, 1 to 1000, or `none` for no limit",
    default: "none",
    schema: orNone(integer(1, 1000)),
  }),
  maxSubmissions: setting("OFFLOAD_MAX_SUBMISSIONS_PER_MINUTE", {
    doc: "How many jobs a caller may submit in a minute, evenly; a quarter of it at once. One more is answered 429. `auto`: with keys a tenth of `OFFLOAD_MAX_QUEUED`, at least 600.",
    takes: "a whole number, 1 to 10000000, `auto`, or `none` for no limit",
    default: "auto",
    schema: orAuto(integer(1, 10_000_000)),
  }),
  maxAttempts: setting("OFFLOAD_MAX_ATTEMPTS", {
    doc: "How many attempts of a job may fail before it does, where its `maxAttempts` says nothing.",
    takes: "a whole number, 1 to 100",
    default: "3",
    schema: integer(1, 100),
  }),
  maxAttemptsLimit: setting("OFFLOAD_MAX_ATTEMPTS_LIMIT", {
    doc: "The largest `maxAttempts` that a job may ask for. A submission above it is answered 422.",
    takes: "a whole number, 1 to 100, not below `OFFLOAD_MAX_ATTEMPTS`",
    default: "100",
    schema: integer(1, 100),
  }),
  timeout: setting("OFFLOAD_TIMEOUT_SECONDS", {
    doc: "The longest that an attempt may run, where the job's `timeoutSeconds` says nothing.",
    takes: "seconds, 0.1 to 86400",
    default: "600",
    schema: seconds(0.1, 86_400),
  }),
  maxTimeout: setting("OFFLOAD_MAX_TIMEOUT_SECONDS", {
    doc: "The largest `timeoutSeconds` that a job may ask for. A submission above it is answered 422.",
    takes: "seconds, 0.1 to 86400, not below `OFFLOAD_TIMEOUT_SECONDS` and the timeout of a resource",
    default: "86400",
    schema: seconds(0.1, 86_400),
  }),
  retryBase: setting("OFFLOAD_RETRY_BASE_SECONDS", {
    doc: "The backoff after the first failed attempt; it doubles with each further one, and is spread by ±50 %.",
    takes: "seconds, 0 to 3600",
    default: "2",
    schema: seconds(0, 3600),
  }),
  retryMax: setting("OFFLOAD_RETRY_MAX_SECONDS", {
    doc: "The longest backoff, before it is spread. A longer wait that the downstream asked for is respected.",
    takes: "seconds, 0 to 86400",
    default: "300",
    schema: seconds(0, 86_400),
  }),
  killGrace: setting("OFFLOAD_KILL_GRACE_SECONDS", {
    doc: "The time between SIGTERM and SIGKILL when an attempt's processes are ended.",
    takes: "seconds, 0 to 300",
    default: "5",
    schema: seconds(0, 300),
  }),
  containment: setting("OFFLOAD_CONTAINMENT", {
    doc: "How the processes of an attempt are held together. `namespace`: a PID namespace, which nothing leaves. `group`: a process group, with a search for what left it. `auto`: the first of them that this machine allows.",
    takes: "`auto`, `namespace` or `group`",
    default: "auto",
    schema: Schema.Literal("auto", "namespace", "group"),
  }),
  drain: setting("OFFLOAD_DRAIN_SECONDS", {
    doc: "How long running attempts may go on after SIGTERM before they go back to the queue.",
    takes: "seconds, 0 to 3600",
    default: "20",
    schema: seconds(0, 3600),
  }),
  retention: setting("OFFLOAD_RETENTION_SECONDS", {
    doc: "How long a job is kept after it has ended.",
    takes: "seconds, 1 to 315360000",
    default: "604800",
    schema: seconds(1, 315_360_000),
  }),
  maxBodyBytes: setting("OFFLOAD_MAX_BODY_BYTES", {
    doc: "The largest request body, and so the largest prompt. A larger one is answered 413.",
    takes: "bytes, 1024 to 67108864",
    default: "1048576",
    schema: integer(1024, 67_108_864),
  }),
  maxOutputBytes: setting("OFFLOAD_MAX_OUTPUT_BYTES", {
    doc: "The largest output of an attempt, in UTF-8. One that passes it is killed, and fails as `LlmOutputTooLarge`.",
    takes: "bytes, 1024 to 67108864",
    default: "1048576",
    schema: integer(1024, 67_108_864),
  }),
  maxStreams: setting("OFFLOAD_MAX_STREAMS", {
    doc: "How many event streams and waits for a job's end may be open. One more stream is answered 429; one more `Prefer: wait` is answered at once.",
    takes: "a whole number, 1 to 100000",
    default: "1000",
    schema: integer(1, 100_000),
  }),
  maxStreamsPerCaller: setting("OFFLOAD_MAX_STREAMS_PER_CALLER", {
    doc: "How many event streams and waits of a caller may be open. `auto`: with keys half of `OFFLOAD_MAX_STREAMS`, at least 10.",
    takes: "a whole number, 1 to 100000, `auto`, or `none` for no limit",
    default: "auto",
    schema: orAuto(integer(1, 100_000)),
  }),
  maxUnread: setting("OFFLOAD_MAX_UNREAD_BYTES", {
    doc: "How many bytes may wait in memory for clients to read them, of all callers together; with keys a caller may have half of it. A further answer becomes a 429, and a further stream that stands still is cut.",
    takes: "bytes, 1048576 to 68719476736",
    default: "134217728",
    schema: integer(1_048_576, 68_719_476_736),
  }),
  idle: setting("OFFLOAD_IDLE_SECONDS", {
    doc: "How long a connection may take and give nothing before it is closed: a reader of events that stands still. A `Prefer: wait` that is longer is cut short by it.",
    takes: "seconds, 1 to 3600",
    default: "90",
    schema: seconds(1, 3600),
  }),
  webhookSecrets: setting("OFFLOAD_WEBHOOK_SECRET", {
    doc: "What deliveries are signed with. Without it no job may have a webhook. Several sign side by side, so that receivers can change from one to the next. See `docs/webhooks.md`.",
    takes: "`whsec_` and the base64 of 24 to 64 bytes; several with blanks between them; or nothing",
    default: "",
    secret: "text",
    schema: Secrets,
  }),
  webhookAllow: setting("OFFLOAD_WEBHOOK_ALLOW_HOSTS", {
    doc: "Where deliveries may go though the address is private, and by plain `http:`.",
    takes: "host names, addresses and CIDR ranges, with commas between them",
    default: "",
    schema: listOf(AllowedHost),
  }),
  dnsServers: setting("OFFLOAD_DNS_SERVERS", {
    doc: "The name servers that are asked for the hosts of webhooks, in place of the machine's own. The machine's hosts file counts before them.",
    takes: "addresses, with or without a port, such as `9.9.9.9` or `[::1]:53`, with commas between them; or nothing",
    default: "",
    schema: listOf(NameServer),
  }),
  webhookPermits: setting("OFFLOAD_WEBHOOK_PERMITS", {
    doc: "How many deliveries run at once, beside the permits of the resources.",
    takes: "a whole number, 1 to 1000",
    default: "8",
    schema: integer(1, 1000),
  }),
  webhookPermitsPerCaller: setting("OFFLOAD_WEBHOOK_PERMITS_PER_CALLER", {
    doc: "How many deliveries of a caller run at once; those of others start first. `auto`: with keys half of `OFFLOAD_WEBHOOK_PERMITS`.",
    takes: "a whole number, 1 to 1000, `auto`, or `none` for no limit",
    default: "auto",
    schema: orAuto(integer(1, 1000)),
  }),
  webhookPermitsPerHost: setting("OFFLOAD_WEBHOOK_PERMITS_PER_HOST", {
    doc: "How many deliveries to a host and port run at once; those to others start first. `auto`: half of `OFFLOAD_WEBHOOK_PERMITS`.",
    takes: "a whole number, 1 to 1000, `auto`, or `none` for no limit",
    default: "auto",
    schema: orAuto(integer(1, 1000)),
  }),
  webhookTimeout: setting("OFFLOAD_WEBHOOK_TIMEOUT_SECONDS", {
    doc: "How long a receiver has to answer a delivery.",
    takes: "seconds, 0.1 to 300",
    default: "10",
    schema: seconds(0.1, 300),
  }),
  webhookRetry: setting("OFFLOAD_WEBHOOK_RETRY_SECONDS", {
    doc: "The wait before the second attempt of a delivery, before the third, and so on, each spread by ±50 %; a longer `Retry-After` is respected. When they are used up, the delivery has failed.",
    takes: "1 to 50 numbers of seconds, 0 to 604800, with commas between them",
    default: "5,300,1800,7200,18000,36000,50400,72000,86400",
    schema: Waits,
  }),
  log: setting("OFFLOAD_LOG", {
    doc: "How the log is written to standard output. `auto`: `pretty` on a terminal, else `json`.",
    takes: "`auto`, `pretty` or `json`",
    default: "auto",
    schema: Schema.Literal("auto", "pretty", "json"),
  }),
  logLevel: setting("OFFLOAD_LOG_LEVEL", {
    doc: "The least level that is logged.",
    takes: "`debug`, `info`, `warning` or `error`",
    default: "info",
    schema: Schema.Literal("debug", "info", "warning", "error"),
  }),
} satisfies Record<string, Setting<unknown>>

const read = Config.all(settings)

/** The value of every setting, as it is written; durations are milliseconds. */
export type Settings = Config.Config.Success<typeof read>

/** The settings that can hold a secret. */
export const secrets: ReadonlyArray<string> = Object.values(settings)
  .filter(({ documentation }) => documentation.secret !== undefined)
  .map(({ documentation }) => documentation.name)

/**
 * The value of every setting, with its resources, the default one first, its callers, none where all may call, and its
 * shares as numbers.
 */
export type Values = Omit<Settings, "resources" | "apiKeys" | keyof ReturnType<typeof shares>> &
  ReturnType<typeof shares> & {
    readonly resources: Resources
    readonly callers: ReadonlyArray<KnownCaller>
    /** The file that the callers come from; `null` where there is none. */
    readonly keysFile: string | null
    /** The absolute paths of all files with secrets, that of the callers among them. */
    readonly secretFiles: ReadonlyArray<string>
  }

const refuse = (setting: string, reason: string) => Either.left(ConfigError.InvalidData([setting], reason))

/** What contradicts another setting, and no setting alone can tell. */
const consistent = (
  { host, maxAttempts, maxAttemptsLimit, maxTimeout, redisUrl, role, timeout }: Settings,
  callers: ReadonlyArray<KnownCaller>,
): Either.Either<void, ConfigError.ConfigError> => {
  if (callers.length === 0 && !loopback.includes(host)) {
    return refuse("HOST", "without OFFLOAD_API_KEYS it takes a loopback address: `127.0.0.1`, `::1` or `localhost`")
  }
  if (role !== "all" && Redacted.value(redisUrl) === "") {
    return refuse("OFFLOAD_ROLE", "without REDIS_URL one process does all: it takes `all` alone")
  }
  if (maxAttempts > maxAttemptsLimit) {
    return refuse("OFFLOAD_MAX_ATTEMPTS", `it is ${maxAttempts}: OFFLOAD_MAX_ATTEMPTS_LIMIT allows ${maxAttemptsLimit}`)
  }
  if (timeout > maxTimeout) {
    return refuse(
      "OFFLOAD_TIMEOUT_SECONDS",
      `it is ${timeout / 1000}: OFFLOAD_MAX_TIMEOUT_SECONDS allows ${maxTimeout / 1000}`,
    )
  }
  return Either.void
}

const complete = (
  { apiKeys, ...settings }: Settings,
  files: ReadonlyArray<string>,
): Either.Either<Values, ConfigError.ConfigError> =>
  Either.gen(function* () {
    const callers = yield* resolveKeys(apiKeys)
    yield* consistent({ apiKeys, ...settings }, callers)
    const resources = yield* resolveResources(settings.resources, {
      adapter: settings.llm,
      command: settings.llmCommand,
      model: null,
      permits: settings.permits,
      timeoutMillis: settings.timeout,
      maxOutputBytes: settings.maxOutputBytes,
      env: settings.llmEnv,
      folder: null,
      maxCostUsd: null,
      limits: defaultLimits,
      user: null,
    })
    const patient = resources.find(({ timeoutMillis }) => timeoutMillis > settings.maxTimeout)
    if (patient !== undefined) {
      return yield* refuse(
        "OFFLOAD_RESOURCES",
        `${patient.name}: timeoutSeconds: OFFLOAD_MAX_TIMEOUT_SECONDS allows ${settings.maxTimeout / 1000}`,
      )
    }
    const keysFile = fileOf(apiKeys)
    return {
      ...settings,
      ...shares(settings, callers.length > 0),
      resources,
      callers,
      keysFile,
      secretFiles: [...new Set([...files, ...(keysFile === null ? [] : [resolve(keysFile)])])],
    }
  })

export class OffloadConfig extends Context.Tag("effect-offload/OffloadConfig")<OffloadConfig, Values>() {
  /** Reads every setting from Effect's `ConfigProvider`, by default the environment. */
  static readonly layerFromEnv: Layer.Layer<OffloadConfig, ConfigError.ConfigError> = Layer.effect(
    OffloadConfig,
    Config.mapOrFail(
      Config.all({ settings: read, files: secretFiles([...secrets, ...telemetrySecrets]) }),
      ({ files, settings }) => complete(settings, files),
    ),
  )

  /** The defaults, with some settings replaced: for tests, and for programs that embed the service. */
  static readonly layer = (settings: Partial<Settings> = {}): Layer.Layer<OffloadConfig, ConfigError.ConfigError> =>
    Layer.effect(
      OffloadConfig,
      Effect.withConfigProvider(read, ConfigProvider.fromMap(new Map())).pipe(
        Effect.flatMap((defaults) => complete({ ...defaults, ...settings }, [])),
      ),
    )
}
