/**
 * The calls under `/v1`: the same jobs, seen through OpenAI's Responses API in background mode. It keeps nothing of its
 * own. `docs/openai.md` says what is the same and what is not.
 */
import { HttpRouter, type HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect, Either, Schema } from "effect"
import { isTerminal } from "../Job.js"
import { Offload, type Snapshot } from "../Offload.js"
import { OffloadConfig } from "../OffloadConfig.js"
import { Admission } from "./Admission.js"
import { jsonBody } from "./Body.js"
import { Caller, own } from "./Caller.js"
import { eventStream } from "./EventStreams.js"
import { json, queryParameters, submit } from "./Jobs.js"
import { paged } from "./LogPages.js"
import * as OpenAiError from "./OpenAi/Error.js"
import * as Reading from "./OpenAi/Reading.js"
import * as Request from "./OpenAi/Request.js"
import * as Response from "./OpenAi/Response.js"
import { maxWaitSeconds } from "./Prefer.js"
import type { Problem } from "./Problem.js"
import { inSlices } from "./Slices.js"

/** Whether a request is for these calls. */
export const speaks = (url: string): boolean => url.startsWith("/v1/")

/** A problem of the service in the shape of this API. */
export const toResponse = (problem: Problem): HttpServerResponse.HttpServerResponse =>
  OpenAiError.toResponse(OpenAiError.fromProblem(problem))

const readBody = jsonBody(Schema.Unknown)

/** Saves a job; then streams it, answers it at once, or waits for its end, as `stream` and `background` say. */
const create = Effect.gen(function* () {
  const { resources } = yield* OffloadConfig
  const { name: caller } = yield* Caller
  const request = yield* Request.decode(yield* readBody)
  const submission = yield* Request.toSubmission(request, resources)
  // Before the job is saved: a client that is refused comes again, and would have it saved twice.
  if (request.stream === true || request.background !== true) yield* (yield* Admission).stream(caller)
  const { rateLimit, snapshot } = yield* submit(submission, "POST /v1/responses")
  const response = yield* request.stream === true ? stream(snapshot, -1) : answer(snapshot, request)
  return HttpServerResponse.setHeaders(response, rateLimit)
}).pipe(Effect.scoped)

/** Waits, for as long as the client does, unless it asked not to. */
const answer = (snapshot: Snapshot, request: Request.Request) =>
  Effect.gen(function* () {
    const offload = yield* Offload
    const { id, status } = snapshot.job
    const isNow = request.background === true || isTerminal(status)
    return json({
      ...Response.fromSnapshot(isNow ? snapshot : yield* inSlices(offload.awaitEnd(id, Number.POSITIVE_INFINITY))),
      background: request.background ?? false,
      parallel_tool_calls: request.parallel_tool_calls ?? true,
      user: request.user ?? null,
    })
  })

const Query = Schema.Struct({
  stream: Schema.optional(Schema.Literal("true", "false")),
  starting_after: Schema.optional(Schema.NumberFromString.pipe(Schema.int(), Schema.nonNegative())),
  include_obfuscation: Schema.optional(Schema.Literal("false")),
})

const decodeQuery = Schema.decodeUnknownEither(Query, { errors: "all", onExcessProperty: "error" })

const retrieve = Effect.gen(function* () {
  const offload = yield* Offload
  const query = yield* Either.mapLeft(decodeQuery(yield* queryParameters), (error) => OpenAiError.fromParseError(error))
  const { caller, id } = yield* ownResponse
  if (query.stream !== "true") {
    if (query.starting_after !== undefined) return yield* OpenAiError.unsupported("starting_after")
    return json(Response.fromSnapshot(yield* offload.get(id)))
  }
  yield* (yield* Admission).stream(caller)
  return yield* stream(yield* offload.get(id), query.starting_after ?? -1)
}).pipe(Effect.scoped)

/** Answers when the processes of the job are gone; after a minute, or where no further wait may be open, with the response as it is. */
const cancel = Effect.gen(function* () {
  const offload = yield* Offload
  const { caller, id } = yield* ownResponse
  const asked = yield* offload.cancel(id)
  const isNow = isTerminal(asked.job.status) || !(yield* (yield* Admission).wait(caller))
  return json(Response.fromSnapshot(isNow ? asked : yield* inSlices(offload.awaitEnd(id, maxWaitSeconds * 1000))))
}).pipe(Effect.scoped)

const remove = Effect.gen(function* () {
  const offload = yield* Offload
  const job = yield* ownResponse
  yield* offload.remove(job.id)
  return json({ id: Response.idOf(job), object: "response", deleted: true })
})

const models = Effect.gen(function* () {
  const offload = yield* Offload
  const data = (yield* offload.resources).map(({ adapter, name }) => ({
    id: name,
    object: "model",
    created: 0,
    owned_by: adapter,
  }))
  return json({ object: "list", data })
})

/** The caller's job whose id, as that of a response, stands in the path. */
const ownResponse = Effect.gen(function* () {
  const { params } = yield* HttpRouter.RouteContext
  const id = params.id ?? ""
  const missing = () => OpenAiError.notFound(id)
  if (!id.startsWith("resp_")) return yield* missing()
  return yield* Effect.catchTags(own(Response.jobIdOf(id)), { JobNotFound: missing, Problem: missing })
})

/** Streams the events after number `after`. */
const stream = ({ input, job }: Snapshot, after: number) =>
  Effect.flatMap(Offload, (offload) =>
    eventStream(
      Reading.pull(
        job,
        input,
        after,
        paged((from, limit) => offload.eventsAfter(job.id, from, limit)),
      ),
    ),
  )

/** Methods and paths of these calls. */
const routes = [
  HttpRouter.makeRoute("POST", "/v1/responses", create),
  HttpRouter.makeRoute("GET", "/v1/responses/:id", retrieve),
  HttpRouter.makeRoute("DELETE", "/v1/responses/:id", remove),
  HttpRouter.makeRoute("POST", "/v1/responses/:id/cancel", cancel),
  HttpRouter.makeRoute("GET", "/v1/models", models),
] as const

const unrouted = ({ method, url }: HttpServerRequest.HttpServerRequest) => {
  const pathname = url.split("?")[0] ?? ""
  const allowed = routes
    .filter(({ path }) => new RegExp(`^${path.replace(/:[a-z]+/g, "[^/]+")}$`).test(pathname))
    .map((route) => route.method)
  return allowed.length === 0
    ? new OpenAiError.OpenAiError({
        status: 404,
        code: "unknown_url",
        message: `Invalid URL (${method} ${pathname.slice(0, 200)})`,
        param: null,
      })
    : new OpenAiError.OpenAiError({
        status: 405,
        code: "method_not_supported",
        message: `Not allowed to ${method} on ${pathname.slice(0, 200)}.`,
        param: null,
        headers: { allow: allowed.join(", ") },
      })
}

/** These calls. What they fail with is a problem of the service, which `toResponse` gives this API's shape. */
export const router = HttpRouter.fromIterable(routes).pipe(
  Effect.catchTag("RouteNotFound", ({ request }) => unrouted(request)),
  Effect.catchTag("OpenAiError", (error) => Effect.succeed(OpenAiError.toResponse(error))),
)
