/**
 * Which web pages of other origins may call the service (https://fetch.spec.whatwg.org/#http-cors-protocol): those of
 * `OFFLOAD_CORS_ORIGINS`, none without it.
 */
import { type HttpServerRequest, HttpServerResponse } from "@effect/platform"

const exposed = "location, retry-after, preference-applied, ratelimit, ratelimit-policy, www-authenticate"

/** The fields that let a page read an answer; none where its origin may not. */
export const corsFields = (
  { headers }: HttpServerRequest.HttpServerRequest,
  origins: ReadonlyArray<string>,
): Readonly<Record<string, string>> => {
  if (origins.length === 0) return {}
  const { origin } = headers
  return origin === undefined || !origins.includes(origin)
    ? { vary: "origin" }
    : { vary: "origin", "access-control-allow-origin": origin, "access-control-expose-headers": exposed }
}

/** The answer to a browser that asks what a page may do; `null`: the request asks something else. */
export const preflight = (
  { headers, method }: HttpServerRequest.HttpServerRequest,
  origins: ReadonlyArray<string>,
): HttpServerResponse.HttpServerResponse | null =>
  method !== "OPTIONS" ||
  headers["access-control-request-method"] === undefined ||
  headers.origin === undefined ||
  !origins.includes(headers.origin)
    ? null
    : HttpServerResponse.empty({
        status: 204,
        headers: {
          "access-control-allow-methods": "GET, POST, PATCH, DELETE",
          // The origin may call: which fields its client adds is its own affair.
          "access-control-allow-headers": headers["access-control-request-headers"] ?? "",
          "access-control-max-age": "600",
        },
      })
