/**
 * The contract to read: `GET /openapi.json`, and `/docs`, which renders it by Swagger UI. Everything comes from this
 * service, under a Content-Security-Policy that allows no other.
 */
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { HttpRouter } from "@effect/platform"
import { Effect } from "effect"
import { openApiDocument } from "../Api/Document.js"
import * as Assets from "./Assets.js"
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
  Assets.make(Buffer.from(JSON.stringify(openApiDocument())), "application/json", { "cache-control": "no-cache" }),
)

export const openApi = Effect.suspend(() => Assets.respond(document()))

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

const fields = { "cache-control": "max-age=3600", "x-content-type-options": "nosniff" }

const javascript = "text/javascript; charset=utf-8"

/** Where the build put the files, seen from this one: compiled, or in the bundle. */
const places = ["./docs/", "../Http/docs/"]

/** The bytes of a file of the build; `null` where nothing was built. */
const read = (name: string): Uint8Array | null => {
  const file = places.map((place) => fileURLToPath(new URL(place + name, import.meta.url))).find(existsSync)
  return file === undefined ? null : readFileSync(file)
}

const built = (name: string, contentType: string): ReadonlyArray<[string, Assets.Asset]> => {
  const body = read(name)
  return body === null ? [] : [[name, Assets.make(body, contentType, fields, (coding) => read(`${name}.${coding}`))]]
}

/** Read once. What is not among these names cannot be asked for, whatever a path says. */
const assets = lazily(
  (): ReadonlyMap<string, Assets.Asset> =>
    new Map([
      ...built("swagger-ui.css", "text/css; charset=utf-8"),
      ...built("swagger-ui-bundle.js", javascript),
      ["start.js", Assets.make(Buffer.from(start), javascript, fields)],
    ]),
)

const pageAsset = lazily(() =>
  Assets.make(Buffer.from(page), "text/html; charset=utf-8", {
    "cache-control": "no-cache",
    "content-security-policy": contentSecurityPolicy,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
  }),
)

export const docs = Effect.suspend(() => Assets.respond(pageAsset()))

export const docsAsset = Effect.gen(function* () {
  const { params } = yield* HttpRouter.RouteContext
  const found = assets().get(params.file ?? "")
  return yield* found === undefined
    ? new Problem({ slug: "not-found", detail: "The page has no such part." })
    : Assets.respond(found)
})
