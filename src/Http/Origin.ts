/**
 * Keeps web pages of other origins from changing anything. CORS does not: a browser sends a simple request, such as a
 * `POST` without a body, before it asks whether the page may have its answer.
 */
import type { HttpServerRequest } from "@effect/platform"
import { Problem } from "./Problem.js"

const safe: ReadonlyArray<string> = ["GET", "HEAD", "OPTIONS"]

const hostOf = (origin: string): string | null => (URL.canParse(origin) ? new URL(origin).host : null)

/**
 * Whether a browser sent a request for a page that is neither the service's own nor one of `origins`. A client that is
 * no browser says nothing of a page, and is none. `Sec-Fetch-Site` comes first: a page cannot set it, and it is right
 * behind a proxy that changes the `Host`.
 */
const isForeign = ({ headers }: HttpServerRequest.HttpServerRequest, origins: ReadonlyArray<string>): boolean => {
  const { host = "", origin } = headers
  if (origin !== undefined && origins.includes(origin)) return false
  const site = headers["sec-fetch-site"]
  if (site !== undefined) return site !== "same-origin" && site !== "none"
  return origin !== undefined && hostOf(origin) !== host.toLowerCase()
}

/** The problem of a request that would change something for a page of another origin; `null` for every other one. */
export const refusalOf = (
  request: HttpServerRequest.HttpServerRequest,
  origins: ReadonlyArray<string>,
): Problem | null =>
  safe.includes(request.method) || !isForeign(request, origins)
    ? null
    : new Problem({
        slug: "foreign-origin",
        detail: "The request comes from a web page of another origin. Nothing was changed.",
      })
