/**
 * The span of a request. The platform's own takes every header that it does not know to be a secret, and the query; a
 * key in a header of another name, an `Idempotency-Key` or a cursor has no place in a collector.
 */
import { type Headers, HttpServerRequest, type HttpServerResponse, HttpTraceContext } from "@effect/platform"
import { Effect, Option, type Tracer } from "effect"

/** The fields that a span has; all others are left out. */
const requestFields = ["accept", "content-length", "content-type", "last-event-id", "prefer", "user-agent"] as const
const responseFields = ["content-length", "content-type", "retry-after"] as const

const annotate = (span: Tracer.Span, prefix: string, headers: Headers.Headers, names: ReadonlyArray<string>): void => {
  for (const name of names) {
    const value = headers[name]
    if (value !== undefined) span.attribute(`${prefix}.${name}`, value)
  }
}

/** Traces an app with what is allowed of each request and its answer. Its platform's own span is to be turned off. */
export const traced = <R>(app: Effect.Effect<HttpServerResponse.HttpServerResponse, never, R>) =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers, method, url }) =>
    Effect.useSpan(
      `http.server ${method}`,
      {
        parent: Option.getOrUndefined(HttpTraceContext.fromHeaders(headers)),
        kind: "server",
        captureStackTrace: false,
      },
      (span) => {
        span.attribute("http.request.method", method)
        span.attribute("url.path", url.split("?")[0] ?? "")
        annotate(span, "http.request.header", headers, requestFields)
        return Effect.tap(Effect.withParentSpan(app, span), (response) =>
          Effect.sync(() => {
            span.attribute("http.response.status_code", response.status)
            annotate(span, "http.response.header", response.headers, responseFields)
          }),
        )
      },
    ),
  )
