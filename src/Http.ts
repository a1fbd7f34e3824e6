/** The HTTP server: a handler for each call of `Api.ts`, and a problem document for everything else. */
import {
  HttpApi,
  type HttpApiEndpoint,
  type HttpApiGroup,
  HttpMiddleware,
  HttpRouter,
  type HttpServerError,
  HttpServerRequest,
  HttpServerResponse,
} from "@effect/platform"
import { NodeHttpServer, NodeHttpServerRequest } from "@effect/platform-node"
import { Cause, Effect, Layer, Option } from "effect"
import { Api, isOpen } from "./Api.js"
import * as Accept from "./Http/Accept.js"
import { Admission } from "./Http/Admission.js"
import { Allowances } from "./Http/Allowances.js"
import { Caller, identify, nobody } from "./Http/Caller.js"
import { corsFields, preflight } from "./Http/Cors.js"
import { docs, docsAsset, openApi } from "./Http/Docs.js"
import { EventStreams } from "./Http/EventStreams.js"
import { jobEvents } from "./Http/Events.js"
import { cancelJob, deleteJob, getJob, listJobs, retryJob, submitJob } from "./Http/Jobs.js"
import { Keyring } from "./Http/Keyring.js"
import * as OpenAi from "./Http/OpenAi.js"
import { listResources, live, metrics, patchResource, problemPage, ready } from "./Http/Operations.js"
import * as Origin from "./Http/Origin.js"
import { fromServiceError, Problem, type ServiceError, toResponse } from "./Http/Problem.js"
import * as Server from "./Http/Server.js"
import { traced } from "./Http/Trace.js"
import { tooManyUnread, Unread } from "./Http/Unread.js"
import { add } from "./Metrics.js"
import { Offload } from "./Offload.js"
import { OffloadConfig } from "./OffloadConfig.js"

export { layer as layerListening, url } from "./Http/Server.js"

/**
 * Reads the file of `OFFLOAD_API_KEYS` again and logs what became of it. A key that is gone is refused from then on, and
 * its event streams are ended; calls that are under way are answered, and jobs go on. A file that is not valid changes
 * nothing.
 */
export const reloadKeys: Effect.Effect<void, never, Keyring | EventStreams> = Effect.gen(function* () {
  const callers = yield* (yield* Keyring).reload
  const endedStreams = yield* (yield* EventStreams).endRevoked
  yield* Effect.logInfo("keys reloaded").pipe(
    Effect.annotateLogs({
      callers: callers.length,
      keys: callers.reduce((sum, { digests }) => sum + digests.length, 0),
      endedStreams,
    }),
  )
}).pipe(
  Effect.catchTag("KeysNotReloaded", (error) =>
    Effect.logError("keys not reloaded: the keys of before stay in use").pipe(
      Effect.annotateLogs({ error: error.message }),
    ),
  ),
  Effect.annotateLogs({ module: "Http" }),
)

type EndpointName = HttpApiEndpoint.HttpApiEndpoint.Name<
  HttpApiGroup.HttpApiGroup.Endpoints<(typeof Api)["groups"][string]>
>

type Handler = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  Problem | ServiceError,
  | Admission
  | Caller
  | EventStreams
  | Offload
  | OffloadConfig
  | Unread
  | HttpRouter.RouteContext
  | HttpServerRequest.HttpServerRequest
  | HttpServerRequest.ParsedSearchParams
>

/** A handler for each endpoint of the contract: an endpoint without one does not compile. */
const handlers: Readonly<Record<EndpointName, Handler>> = {
  submitJob,
  getJob,
  listJobs,
  cancelJob,
  retryJob,
  deleteJob,
  jobEvents,
  listResources,
  patchResource,
  live,
  metrics,
  ready,
  problemPage,
  openApi,
  docs,
  docsAsset,
}

const isEndpointName = (name: string): name is EndpointName => name in handlers

/** Methods and paths stand in the contract alone. */
const endpoints: Array<{
  readonly method: HttpApiEndpoint.HttpApiEndpoint.AnyWithProps["method"]
  readonly path: HttpRouter.PathInput
  readonly group: string
  readonly handler: Handler
}> = []
HttpApi.reflect(Api, {
  onGroup: () => {},
  onEndpoint: ({ endpoint, group }) => {
    if (isEndpointName(endpoint.name)) {
      endpoints.push({ ...endpoint, group: group.identifier, handler: handlers[endpoint.name] })
    }
  },
})

const router = HttpRouter.fromIterable(
  endpoints.map(({ handler, method, path }) => HttpRouter.makeRoute(method, path, handler)),
)

/** The calls with the path of a URL, whatever their method. */
const at = (url: string) => {
  const pathname = url.split("?")[0] ?? ""
  return endpoints.filter(({ path }) => new RegExp(`^${path.replace(/:[a-z]+/g, "[^/]+")}$`).test(pathname))
}

/** Which methods a path takes; none where nothing has this path. */
const allowedMethods = (url: string): ReadonlyArray<string> => {
  const methods = at(url).map(({ method }) => method)
  return methods.includes("GET") ? [...methods, "HEAD"] : methods
}

const unrouted = ({ method, originalUrl }: HttpServerRequest.HttpServerRequest): Problem => {
  const allowed = allowedMethods(originalUrl)
  // The router takes no id that is longer than any can be.
  return allowed.length === 0 || allowed.includes(method)
    ? new Problem({ slug: "not-found", detail: "No call has this path; see /openapi.json or the README." })
    : new Problem({
        slug: "method-not-allowed",
        detail: `${method} is not among ${allowed.join(", ")}.`,
        headers: { allow: allowed.join(", ") },
      })
}

/** Every failure of a handler as the problem that it is; a defect is logged, and tells the caller nothing. */
const toProblem = (
  cause: Cause.Cause<Problem | ServiceError | HttpServerError.RouteNotFound>,
): Effect.Effect<Problem> => {
  const error = Option.getOrNull(Cause.failureOption(cause))
  if (error === null) {
    return Effect.logError("a request died of an unforeseen failure", cause).pipe(
      Effect.annotateLogs({ module: "Http" }),
      Effect.as(new Problem({ slug: "internal", detail: "This is a bug of the service; its log has the cause." })),
    )
  }
  switch (error._tag) {
    case "Problem":
      return Effect.succeed(error)
    case "RouteNotFound":
      return Effect.succeed(unrouted(error.request))
    case "StoreError":
      return Effect.logError("a request failed: the store is out of reach").pipe(
        Effect.annotateLogs({ module: "Http", error: error.message }),
        Effect.as(fromServiceError(error)),
      )
    default:
      return Effect.succeed(fromServiceError(error))
  }
}

/** A call that cannot fail: in place of what it fails with there is the problem that this is to its caller. */
const orProblem = <A, E extends Problem | ServiceError | HttpServerError.RouteNotFound, R>(
  call: Effect.Effect<A, E, R>,
): Effect.Effect<A | Problem, never, R> =>
  Effect.catchAllCause(
    call,
    (cause): Effect.Effect<Problem> =>
      // A client that has gone away is no failure, and gets no answer.
      Cause.isInterruptedOnly(cause) ? Effect.interrupt : toProblem(cause),
  )

/** In the shape of the API that was called; the Host is looked at before that. */
const respond = (problem: Problem) =>
  Effect.map(HttpServerRequest.HttpServerRequest, ({ url }) =>
    OpenAi.speaks(url) && problem.slug !== "misdirected-request" ? OpenAi.toResponse(problem) : toResponse(problem),
  )

/** An answer, unless too many bytes wait for its caller. What is the same for everybody is not counted. */
const unlessUnread = (
  request: HttpServerRequest.HttpServerRequest,
  caller: Caller["Type"],
  response: HttpServerResponse.HttpServerResponse,
) =>
  Effect.filterOrFail(
    Effect.map(Unread, ({ holdAnswer }) =>
      caller === nobody || response.body._tag !== "Uint8Array"
        ? response
        : holdAnswer(caller, response.body.body.byteLength, NodeHttpServerRequest.toServerResponse(request))
          ? response
          : null,
    ),
    (found) => found !== null,
    () => tooManyUnread(response.headers.location),
  )

const answer = Effect.gen(function* () {
  const request = yield* HttpServerRequest.HttpServerRequest
  const config = yield* OffloadConfig
  const incoming = NodeHttpServerRequest.toIncomingMessage(request)
  if (!Server.isOwnHost(Server.hostsOf(incoming), config)) {
    return yield* new Problem({ slug: "misdirected-request", detail: "The Host is none of the service's names." })
  }
  if (Server.hasTwoKeys(incoming)) {
    return yield* new Problem({
      slug: "invalid-parameter",
      detail: "The request has the field Authorization twice.",
      headers: { "www-authenticate": 'Bearer error="invalid_request"' },
    })
  }
  const asked = preflight(request, config.corsOrigins)
  if (asked !== null) return asked
  const refused = Origin.refusalOf(request, config.corsOrigins)
  if (refused !== null) return yield* refused
  if (config.role === "worker" && !at(request.url).some(({ group }) => group === "operations")) {
    return yield* new Problem({
      slug: "not-found",
      detail: "This process runs jobs alone; one whose OFFLOAD_ROLE is `api` or `all` answers this call.",
    })
  }
  const caller = isOpen(request.url) ? nobody : yield* identify
  const found = yield* Effect.provideService(OpenAi.speaks(request.url) ? OpenAi.router : router, Caller, caller)
  return yield* unlessUnread(request, caller, found)
}).pipe(
  orProblem,
  Effect.flatMap((found) => (found instanceof Problem ? respond(found) : Effect.succeed(found))),
)

const app = Effect.gen(function* () {
  const { corsOrigins } = yield* OffloadConfig
  const request = yield* HttpServerRequest.HttpServerRequest
  const response = yield* answer
  add("offload_http_requests_total", { method: request.method, status: String(response.status) })
  return corsOrigins.length === 0 ? response : HttpServerResponse.setHeaders(response, corsFields(request, corsOrigins))
})

const serving = Layer.scopedDiscard(
  Effect.gen(function* () {
    const offload = yield* Offload
    const streams = yield* EventStreams
    const connections = yield* Server.Connections
    const handler = yield* HttpMiddleware.withTracerDisabledWhenEffect(
      NodeHttpServer.makeHandler(traced(app)),
      () => true,
    )
    const accepts = yield* Accept.make(orProblem)
    yield* connections.serve((request, response) => {
      if (!accepts(request, response)) handler(request, response)
    })
    yield* Effect.addFinalizer(() =>
      offload.drain.pipe(Effect.zipRight(streams.end), Effect.zipRight(connections.close)),
    )
  }),
)

/**
 * Serves at `HOST` and `PORT`, with what callers may have kept by whoever keeps it. When it is released it drains, then
 * ends open streams, then stops listening.
 *
 * It listens when the `Offload` that it serves has begun its jobs, unless the program also provides `layerListening`
 * below that one: then a port that is taken is found out before anything is begun.
 */
export const layerAllowed = <E, R>(allowances: Layer.Layer<Allowances, E, R>) =>
  serving.pipe(
    Layer.provide(Admission.layer),
    Layer.provide(Unread.layer),
    Layer.provide(allowances),
    Layer.provideMerge(EventStreams.layer),
    Layer.provideMerge(Keyring.layer),
    Layer.provideMerge(Server.layer),
  )

/** Serves where one process is all of the service. */
export const layer = layerAllowed(Allowances.layerMemory)
