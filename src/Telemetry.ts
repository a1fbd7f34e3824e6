/**
 * Metrics and traces by OTLP over HTTP, where the standard variables ask for it
 * (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
 */
import { Config, Effect, Layer, Option, Schedule } from "effect"
import { sample } from "./Offload/Sample.js"
import { secretText, telemetryHeaders } from "./OffloadConfig/Secret.js"

/** `name=value,…`, percent-encoded. */
const pairs = (text: string): Record<string, string> =>
  Object.fromEntries(
    text.split(",").flatMap((pair) => {
      const [name = "", ...value] = pair.split("=")
      return name.trim() === "" ? [] : [[name.trim(), decodeURIComponent(value.join("=").trim())]]
    }),
  )

/** `endpoint`: where it is to be exported to; none where nothing is. */
const settings = Config.all({
  endpoint: Config.option(Config.nonEmptyString("OTEL_EXPORTER_OTLP_ENDPOINT")),
  isDisabled: Config.withDefault(Config.boolean("OTEL_SDK_DISABLED"), false),
  headers: Config.map(secretText(telemetryHeaders), (found) => (Option.isSome(found) ? pairs(found.value.text) : {})),
  serviceName: Config.withDefault(Config.nonEmptyString("OTEL_SERVICE_NAME"), "offload"),
  intervalMillis: Config.withDefault(Config.integer("OTEL_METRIC_EXPORT_INTERVAL"), 60_000),
}).pipe(
  Config.map(({ endpoint, isDisabled, ...others }) => ({
    ...others,
    endpoint: isDisabled ? Option.none<string>() : endpoint,
  })),
)

/** Exports while the service lives; without an endpoint nothing is exported, and nothing is traced. */
export const layer = Layer.unwrapEffect(
  Effect.gen(function* () {
    const { endpoint, headers, intervalMillis, serviceName } = yield* settings
    if (Option.isNone(endpoint)) return Layer.setTracerEnabled(false)
    const { fetch, metrics, serialization, tracer } = yield* Effect.promise(load)
    const url = (path: string) => `${endpoint.value.replace(/\/+$/, "")}/v1/${path}`
    const resource = { serviceName }
    return Layer.merge(
      metrics.layer({ url: url("metrics"), resource, headers, exportInterval: intervalMillis }),
      tracer.layer({ url: url("traces"), resource, headers }),
    ).pipe(Layer.provide(Layer.merge(serialization.layerJson, fetch.layer)))
  }),
)

/** Brings the metrics that are read up to date before each export. */
export const sampling = Layer.unwrapEffect(
  Effect.map(settings, ({ endpoint, intervalMillis }) =>
    Option.isNone(endpoint)
      ? Layer.empty
      : Layer.scopedDiscard(
          sample.pipe(
            Effect.catchAll((error) => Effect.logDebug(`metrics not read: ${error.message}`)),
            Effect.repeat(Schedule.spaced(Math.max(100, intervalMillis / 4))),
            Effect.forkScoped,
          ),
        ),
  ),
)

/** Where it is not used, it is not loaded. */
const load = async () => {
  const [metrics, tracer, serialization, fetch] = await Promise.all([
    import("@effect/opentelemetry/OtlpMetrics"),
    import("@effect/opentelemetry/OtlpTracer"),
    import("@effect/opentelemetry/OtlpSerialization"),
    import("@effect/platform/FetchHttpClient"),
  ])
  return { metrics, tracer, serialization, fetch }
}
