/**
 * The contract to read: `GET /openapi.json`, and `/docs`, which renders it by Swagger UI. Everything comes from this
 * service, under a Content-Security-Policy that allows no other.
 */
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"
import { openApiDocument } from "../Api/Document.js"
import { Problem } from "./Problem.js"

/** What is made when it is first asked for, and kept: a start need not wait for it. */
const lazily = <A>(make: () => A): (() => A) => {
  let made: { readonly value: A } | null = null
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

const document = lazily(() =>
  HttpServerResponse.text(JSON.stringify(openApiDocument()), {
    contentType: "application/json",
    headers: { "cache-control": "no-cache" },
  }),
)

export const openApi = Effect.sync(document)

/** `data:` is for the icons that stand in Swagger UI's own style sheet. */
const contentSecurityPolicy = [
  "default-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "object-src 'none'",
].join("; ")

const page = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Offload</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="docs"></div>
<noscript>The contract is at <a href="/openapi.json">/openapi.json</a>.</noscript>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
`

/** Without a validator, which would be an outside host, and without remembering keys. */
const start = `SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null,
  persistAuthorization: false,
})
`

const asset = (text: string, contentType: string) =>
  HttpServerResponse.text(text, {
    contentType,
    headers: { "cache-control": "max-age=3600", "x-content-type-options": "nosniff" },
  })

const javascript = "text/javascript; charset=utf-8"

/** Where the build put the files, seen from this one: compiled, or in the bundle. */
const places = ["./docs/", "../Http/docs/"]

/** A file of the build; none where nothing was built. */
const built = (name: string, contentType: string): ReadonlyArray<[string, HttpServerResponse.HttpServerResponse]> => {
  const files = places.map((place) => fileURLToPath(new URL(place + name, import.meta.url)))
  const file = files.find(existsSync)
  return file === undefined ? [] : [[name, asset(readFileSync(file, "utf8"), contentType)]]
}

/** Read once. What is not among these names cannot be asked for, whatever a path says. */
const assets = lazily(
  (): ReadonlyMap<string, HttpServerResponse.HttpServerResponse> =>
    new Map([
      ...built("swagger-ui.css", "text/css; charset=utf-8"),
      ...built("swagger-ui-bundle.js", javascript),
      ["start.js", asset(start, javascript)],
    ]),
)

export const docs = Effect.succeed(
  HttpServerResponse.text(page, {
    contentType: "text/html; charset=utf-8",
    headers: {
      "cache-control": "no-cache",
      "content-security-policy": contentSecurityPolicy,
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
    },
  }),
)

export const docsAsset = Effect.gen(function* () {
  const { params } = yield* HttpRouter.RouteContext
  const found = assets().get(params.file ?? "")
  return found ?? (yield* new Problem({ slug: "not-found", detail: "The page has no such part." }))
})
