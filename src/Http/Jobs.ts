/** The calls under `/jobs`, but for the event stream. */
import { createHash } from "node:crypto"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect, Schema } from "effect"
import { ListQuery, SubmitHeaders, SubmitJob } from "../Api.js"
import { isTerminal, JobId } from "../Job.js"
import { Offload, type Snapshot } from "../Offload.js"
import { jsonBody } from "./Body.js"
import { waitSeconds } from "./Prefer.js"
import { fromParseError, Problem } from "./Problem.js"
import * as Representation from "./Representation.js"

/** There are no keys yet: everybody who can reach the service is the same caller. */
export const caller = "anonymous"

const readSubmission = jsonBody(SubmitJob)

export const submitJob = Effect.gen(function* () {
  const offload = yield* Offload
  const headers = yield* requestHeaders(SubmitHeaders)
  const body = yield* readSubmission
  const { snapshot } = yield* offload.submit({
    caller,
    resource: body.resource,
    input: {
      prompt: body.prompt,
      ...(body.model === undefined ? {} : { model: body.model }),
      ...(body.system === undefined ? {} : { system: body.system }),
    },
    metadata: body.metadata,
    maxAttempts: body.maxAttempts,
    timeoutMillis: millis(body.timeoutSeconds),
    maxCostUsd: body.maxCostUsd,
    deadlineMillis: millis(body.deadlineSeconds),
    idempotency:
      headers["idempotency-key"] === undefined
        ? undefined
        : { key: headers["idempotency-key"], fingerprint: fingerprint(body) },
  })
  return yield* answer(snapshot, 202)
})

export const getJob = Effect.gen(function* () {
  const offload = yield* Offload
  return yield* answer(yield* offload.get(yield* jobId), 200)
})

export const listJobs = Effect.gen(function* () {
  const offload = yield* Offload
  const parameters = yield* HttpServerRequest.ParsedSearchParams
  const query = yield* Effect.mapError(decodeQuery(parameters), (error) => fromParseError("invalid-parameter", error))
  const page = yield* offload.list({ caller, ...query })
  return json({ jobs: page.jobs.map(Representation.jobSummary), cursor: page.cursor })
})

const decodeQuery = Schema.decodeUnknown(ListQuery, { errors: "all", onExcessProperty: "error" })

export const cancelJob = Effect.gen(function* () {
  const offload = yield* Offload
  const snapshot = yield* offload.cancel(yield* jobId)
  return json(Representation.job(snapshot), isTerminal(snapshot.job.status) ? 200 : 202, pace(snapshot))
})

export const deleteJob = Effect.gen(function* () {
  const offload = yield* Offload
  yield* offload.remove(yield* jobId)
  return HttpServerResponse.empty({ status: 204 })
})

/** The id in the path. What cannot be the id of a job is answered as an unknown one. */
export const jobId = Effect.flatMap(HttpRouter.RouteContext, ({ params }) =>
  Schema.is(JobId)(params.id)
    ? Effect.succeed(params.id)
    : Effect.fail(new Problem({ slug: "job-not-found", detail: "There is no job with this id." })),
)

export const requestHeaders = <A, I>(schema: Schema.Schema<A, I>) =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers }) =>
    Effect.mapError(Schema.decodeUnknown(schema, { errors: "all" })(headers), (error) =>
      fromParseError("invalid-parameter", error),
    ),
  )

export const json = (body: unknown, status = 200, headers: Readonly<Record<string, string>> = {}) =>
  HttpServerResponse.text(JSON.stringify(body), {
    status,
    contentType: "application/json",
    headers: { "cache-control": "no-store", ...headers },
  })

/** Answers a job, after the wait that the caller asked for; `pending` is the status of one that has not ended. */
const answer = (snapshot: Snapshot, pending: 200 | 202) =>
  Effect.gen(function* () {
    const offload = yield* Offload
    const request = yield* HttpServerRequest.HttpServerRequest
    const wait = waitSeconds(request.headers.prefer)
    const { id } = snapshot.job
    const last = wait === null || isTerminal(snapshot.job.status) ? snapshot : yield* offload.awaitEnd(id, wait * 1000)
    return json(Representation.job(last), isTerminal(last.job.status) ? 200 : pending, {
      ...(pending === 202 ? { location: `/jobs/${id}` } : {}),
      ...(wait === null ? {} : { "preference-applied": `wait=${wait}` }),
      ...pace(last),
    })
  })

/** When to ask again, in seconds: soon while it runs, later the longer it has to wait. */
const pace = ({ job, queue }: Snapshot): Readonly<Record<string, string>> => {
  if (isTerminal(job.status)) return {}
  const wait = queue?.expectedStartAt == null ? 0 : queue.expectedStartAt - Date.now()
  return { "retry-after": String(Math.min(60, Math.max(1, Math.ceil(wait / 1000)))) }
}

const millis = (seconds: number | undefined) => (seconds === undefined ? undefined : Math.round(seconds * 1000))

/** Two bodies that say the same are the same submission, however they are written. */
const fingerprint = (body: SubmitJob): string =>
  createHash("sha256")
    .update(JSON.stringify({ ...body, metadata: Object.entries(body.metadata).sort() }))
    .digest("base64url")
