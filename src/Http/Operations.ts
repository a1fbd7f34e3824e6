/** Resources, health, and the pages of problems. */
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"
import { type ProblemSlug, problems } from "../Api/Problem.js"
import { PatchResource } from "../Api.js"
import { dispositions } from "../Job/JobError.js"
import { contentType as prometheus, render } from "../Metrics/Prometheus.js"
import { sample } from "../Offload/Sample.js"
import { Offload } from "../Offload.js"
import { jsonBody } from "./Body.js"
import { requireAdmin } from "./Caller.js"
import { json } from "./Jobs.js"
import { Problem } from "./Problem.js"
import * as Representation from "./Representation.js"

export const listResources = Effect.gen(function* () {
  const offload = yield* Offload
  return json({ resources: (yield* offload.resources).map(Representation.resource) })
})

const readPatch = jsonBody(PatchResource)

export const patchResource = Effect.gen(function* () {
  const offload = yield* Offload
  yield* requireAdmin
  const { params } = yield* HttpRouter.RouteContext
  const patch = yield* readPatch
  const state = yield* offload
    .change(params.name ?? "", patch)
    .pipe(
      Effect.catchTag("UnknownResource", (error) =>
        Effect.fail(
          new Problem({ slug: "resource-not-found", detail: error.message, extensions: { known: error.known } }),
        ),
      ),
    )
  return json(Representation.resource(state))
})

export const metrics = Effect.gen(function* () {
  yield* requireAdmin
  yield* sample
  return HttpServerResponse.text(render(), { contentType: prometheus, headers: { "cache-control": "no-store" } })
})

export const live = Effect.succeed(json({ status: "live" }))

export const ready = Effect.gen(function* () {
  const offload = yield* Offload
  if ((yield* offload.readiness) === "ready") return json({ status: "ready" })
  return yield* new Problem({
    slug: "draining",
    detail: "The service is about to end.",
    headers: { "retry-after": "5" },
  })
})

/** What a problem's `type` resolves to. The error tags of jobs have their pages here too. */
export const problemPage = Effect.gen(function* () {
  const { params } = yield* HttpRouter.RouteContext
  const page = pages.get(params.slug ?? "")
  if (page === undefined) return yield* new Problem({ slug: "not-found", detail: "There is no such problem." })
  return HttpServerResponse.text(page, { contentType: "text/html; charset=utf-8" })
})

const html = (name: string, title: string, facts: string, text: string) => `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>${title}</title>
<body style="font: 1rem/1.5 system-ui; max-width: 40rem; margin: 3rem auto; padding: 0 1rem">
<h1>${title}</h1><p><code>${name}</code> · ${facts}</p><p>${text.replace(/`([^`]+)`/g, "<code>$1</code>")}</p>
`

const slugs = Object.keys(problems) as ReadonlyArray<ProblemSlug>

const pages: ReadonlyMap<string, string> = new Map([
  ...slugs.map((slug): [string, string] => {
    const { doc, status, title } = problems[slug]
    return [slug, html(slug, title, `status ${status}`, doc)]
  }),
  ...Object.entries(dispositions).map(([tag, { remedy, retryable, title }]): [string, string] => [
    tag,
    html(tag, title, retryable ? "another attempt follows" : "no further attempt", remedy),
  ]),
])
