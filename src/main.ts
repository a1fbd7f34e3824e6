/** The service: chooses the layers, launches them, and is the only place that runs anything. */
import { join } from "node:path"
import { isatty } from "node:tty"
import { NodeContext, NodeRuntime } from "@effect/platform-node"
import { Cause, ConfigProvider, Console, Effect, Layer, Logger, LogLevel, Queue, Redacted, Runtime } from "effect"
import { closeInherited } from "./Descriptors.js"
import { Allowances } from "./Http/Allowances.js"
import { url } from "./Http/Server.js"
import * as Http from "./Http.js"
import { isCommon } from "./Llm/Environment.js"
import { variable as attemptVariable } from "./Llm/Marker.js"
import * as Subprocess from "./Llm/Subprocess.js"
import * as Log from "./Log.js"
import { Hurry } from "./Offload/Hurry.js"
import { Spool } from "./Offload/Spool.js"
import { Worker } from "./Offload/Worker.js"
import { Offload } from "./Offload.js"
import { hide } from "./OffloadConfig/Environment.js"
import { isWorldReadable, telemetrySecrets } from "./OffloadConfig/Secret.js"
import { OffloadConfig, secrets as secretSettings } from "./OffloadConfig.js"
import { exitCodes, listen, type Step } from "./Signals.js"
import * as Lmdb from "./Store/Lmdb.js"
import * as Telemetry from "./Telemetry.js"
import * as Post from "./Webhook/Post.js"

const secrets = [...secretSettings, ...telemetrySecrets]

/** First of all: no child may be started while the secrets stand where it can read them. */
const hidden = hide({
  secrets,
  // The loader may hold on to its own, and an attempt of a service around this one is found by its variable.
  isCommon: (name) => isCommon(name) || name.startsWith("LD_") || name === attemptVariable,
})

/** Settings are read from the environment as it was. */
const ProviderLayer = Layer.setConfigProvider(
  ConfigProvider.fromMap(new Map(hidden.environment), { pathDelim: "_", seqDelim: "," }),
)

const exit = Effect.async<never>(() => process.exit(1))

const StoreLayer = Layer.unwrapEffect(
  Effect.map(OffloadConfig, ({ data, lease, redisEviction, redisPrefix, redisUrl }) => {
    const url = Redacted.value(redisUrl)
    const store =
      url === ""
        ? // Its jobs run elsewhere by now, and so nothing of what it carries is to be waited for.
          Lmdb.layer({ path: join(data, "store"), onLost: exit })
        : // Loaded where it is used: a start without it need not wait for its client.
          Layer.unwrapEffect(
            Effect.map(
              Effect.promise(() => import("./Store/Redis.js")),
              (Redis) =>
                Redis.layer({
                  url,
                  prefix: redisPrefix,
                  allowEviction: redisEviction === "allow",
                  leaseMillis: lease,
                }),
            ),
          )
    return Layer.merge(store, Spool.layer(join(data, "spool")))
  }),
)

const OffloadLayer = Layer.unwrapEffect(
  Effect.map(OffloadConfig, ({ redisUrl }) =>
    Redacted.value(redisUrl) === ""
      ? Offload.layerWorker
      : Layer.unwrapEffect(
          Effect.map(
            Effect.promise(() => import("./Offload/BullMq.js")),
            (BullMq) => Offload.layerDispatched(BullMq.layer),
          ),
        ),
  ),
).pipe(Layer.provide(Worker.layerLlm))

/** What callers may have: of the fleet, where there is one. */
const AllowancesLayer = Layer.unwrapEffect(
  Effect.map(OffloadConfig, ({ redisUrl }) =>
    Redacted.value(redisUrl) === ""
      ? Allowances.layerMemory
      : Layer.unwrapEffect(
          Effect.map(
            Effect.promise(() => import("./Http/Allowances/Redis.js")),
            (Redis) => Redis.layer,
          ),
        ),
  ),
)

const LoggerLayer = Layer.unwrapEffect(
  Effect.map(OffloadConfig, ({ log, logLevel }) => {
    const pretty = log === "pretty" || (log === "auto" && process.stdout.isTTY)
    return Layer.merge(
      pretty ? Logger.pretty : Log.json,
      Logger.minimumLogLevel(
        { debug: LogLevel.Debug, info: LogLevel.Info, warning: LogLevel.Warning, error: LogLevel.Error }[logLevel],
      ),
    )
  }),
)

/** The log's first lines: where it is, what it keeps, what it runs, and how to try it. */
const announce = Effect.gen(function* () {
  const offload = yield* Offload
  const address = yield* url
  yield* Effect.logInfo(`listening on ${address}`)
  yield* Effect.logInfo(`store: ${offload.store}`)
  for (const { adapter, command, name, permits } of yield* offload.resources) {
    yield* Effect.logInfo(`resource ${name}: ${adapter} (${command}), ${permits} permits`)
  }
  yield* Effect.logInfo(
    `try: curl -s ${address}/jobs -H 'Content-Type: application/json' -H 'Prefer: wait=30' -d '{"prompt":"Why is the sky blue?"}'`,
  )
}).pipe(Effect.annotateLogs({ module: "main" }))

/** What others on this machine can read of the secrets. */
const warnOfSecrets = Effect.gen(function* () {
  const { secretFiles } = yield* OffloadConfig
  for (const file of secretFiles.filter(isWorldReadable)) {
    yield* Effect.logWarning("every user of this machine may read a file of secrets: take the right away").pipe(
      Effect.annotateLogs({ file }),
    )
  }
  const variables = hidden.visible.filter((name) => secrets.includes(name))
  if (variables.length > 0) {
    yield* Effect.logWarning(
      "secrets stay in the environment, where jobs may read them: give them as files, by the settings with _FILE",
    ).pipe(Effect.annotateLogs({ variables: variables.join(", "), reason: hidden.reason }))
  }
}).pipe(Effect.annotateLogs({ module: "main" }))

/** SIGHUP reads the file of the keys again. Without such a file the signal ends the process, as it always does. */
const reloading = Effect.gen(function* () {
  const { keysFile } = yield* OffloadConfig
  if (keysFile === null) return
  const asked = yield* Queue.sliding<void>(1)
  const onSignal = () => void asked.unsafeOffer(undefined)
  yield* Effect.acquireRelease(
    Effect.sync(() => process.on("SIGHUP", onSignal)),
    () => Effect.sync(() => process.off("SIGHUP", onSignal)),
  )
  yield* Effect.forkScoped(Effect.forever(Effect.zipRight(Queue.take(asked), Http.reloadKeys)))
})

/** What is said of a signal, and what the next one does. */
const words: { readonly [step in Step]: (signal: string) => string } = {
  drain: (signal) =>
    `${signal}: the service stops. A second ${signal} interrupts the running attempts, a third ends the service at once.`,
  hurry: (signal) => `${signal} again: running attempts are interrupted. One more ends the service at once.`,
  now: (signal) => `${signal} once more: the service ends at once. Its jobs go back to the queue at the next start.`,
}

/** `runMain` listens for the first signal, and interrupts what it runs: that drains. */
const SignalsLayer = Layer.unwrapEffect(
  Effect.map(Effect.runtime(), (runtime) => {
    const hurry = Effect.unsafeMakeLatch()
    listen((step, signal) => {
      const name = signal === "SIGINT" && isatty(0) ? "Ctrl-C" : signal
      const line = Effect.annotateLogs(Effect.logInfo(words[step](name)), { module: "main" })
      Runtime.runSync(runtime, line)
      if (step === "hurry") hurry.unsafeOpen()
      // Nothing is left behind: the kernel, or the watcher of a group, ends the attempts with the service.
      if (step === "now") process.exit(exitCodes[signal])
    })
    return Layer.succeed(Hurry, hurry.await)
  }),
)

const ServiceLayer = Layer.scopedDiscard(Effect.all([reloading, warnOfSecrets, announce])).pipe(
  Layer.provide(Http.layerAllowed(AllowancesLayer)),
  Layer.provide(Telemetry.sampling),
  Layer.provide(OffloadLayer),
  Layer.provide(Subprocess.layer),
  Layer.provide(Post.layer),
  Layer.provide(StoreLayer),
  // Before anything is opened, swept, rescued or begun: a start on a port that is taken changes nothing.
  Layer.provide(Http.layerListening),
  Layer.provide(SignalsLayer),
  // Before all that forks a fiber: each has the tracer, and the logger, of the one that forked it.
  Layer.provide(Telemetry.layer),
  Layer.provide(LoggerLayer),
  Layer.provide(OffloadConfig.layerFromEnv),
  Layer.provide(NodeContext.layer),
  Layer.provide(ProviderLayer),
)

/** A refusal to start, for the person at the terminal: what is wrong with what, and no stack. */
const refusal = (cause: Cause.Cause<unknown>): string =>
  [...Cause.failures(cause)].map(reason).join("; ") || Cause.pretty(cause)

const reason = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  return error.message !== "" || error.cause === undefined ? error.message : reason(error.cause)
}

closeInherited()

Layer.launch(ServiceLayer).pipe(
  Effect.tapErrorCause((cause) =>
    Cause.isInterruptedOnly(cause) ? Effect.void : Console.error(`offload did not start: ${refusal(cause)}`),
  ),
  NodeRuntime.runMain({ disableErrorReporting: true, disablePrettyLogger: true }),
)
