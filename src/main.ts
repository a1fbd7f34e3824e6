/** The service: chooses the layers, launches them, and is the only place that runs anything. */
import { join } from "node:path"
import { NodeContext, NodeRuntime } from "@effect/platform-node"
import { Cause, Console, Effect, Layer, Logger, LogLevel, Redacted } from "effect"
import { closeInherited } from "./Descriptors.js"
import { url } from "./Http/Server.js"
import * as Http from "./Http.js"
import * as Subprocess from "./Llm/Subprocess.js"
import * as Log from "./Log.js"
import { Spool } from "./Offload/Spool.js"
import { Worker } from "./Offload/Worker.js"
import { Offload } from "./Offload.js"
import { OffloadConfig } from "./OffloadConfig.js"
import * as Lmdb from "./Store/Lmdb.js"
import * as Telemetry from "./Telemetry.js"
import * as Post from "./Webhook/Post.js"

const StoreLayer = Layer.unwrapEffect(
  Effect.map(OffloadConfig, ({ data, lease, redisEviction, redisPrefix, redisUrl }) => {
    const url = Redacted.value(redisUrl)
    const store =
      url === ""
        ? Lmdb.layer({ path: join(data, "store") })
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

const ServiceLayer = Layer.effectDiscard(announce).pipe(
  Layer.provide(Http.layer),
  Layer.provide(Telemetry.sampling),
  Layer.provide(OffloadLayer),
  Layer.provide(Subprocess.layer),
  Layer.provide(Post.layer),
  Layer.provide(StoreLayer),
  // Before all that forks a fiber: each has the tracer, and the logger, of the one that forked it.
  Layer.provide(Telemetry.layer),
  Layer.provide(LoggerLayer),
  Layer.provide(OffloadConfig.layerFromEnv),
  Layer.provide(NodeContext.layer),
)

/** A refusal to start, for the person at the terminal: what is wrong with what, and no stack. */
const refusal = (cause: Cause.Cause<unknown>): string =>
  [...Cause.failures(cause)].map(reason).join("; ") || Cause.pretty(cause)

const reason = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  return error.message !== "" || error.cause === undefined ? error.message : reason(error.cause)
}

closeInherited()

// `runMain` listens for the first signal alone, and a second one would end the process in the middle of its drain. It
// comes with the first where a terminal tells npm and the service, and npm tells the service too.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {})

Layer.launch(ServiceLayer).pipe(
  Effect.tapErrorCause((cause) =>
    Cause.isInterruptedOnly(cause) ? Effect.void : Console.error(`offload did not start: ${refusal(cause)}`),
  ),
  NodeRuntime.runMain({ disableErrorReporting: true, disablePrettyLogger: true }),
)
