/** The calls under `/jobs`, but for the event stream. */
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect, Schema } from "effect"
import { ListQuery, SubmitHeaders, SubmitJob } from "../Api.js"
import { isTerminal, type Job } from "../Job.js"
import { Offload, type Snapshot, type Submission } from "../Offload.js"
import { Admission, type RateLimitFields } from "./Admission.js"
import { type Answer, jsonAnswer, respond } from "./Answer.js"
import { jsonBody } from "./Body.js"
import { excessOf } from "./Bounds.js"
import { Caller, ownJob, ownJobOrDelivery } from "./Caller.js"
import { idempotencyOf } from "./Fingerprint.js"
import { waitSeconds } from "./Prefer.js"
import { fromParseError, Problem, tooMany } from "./Problem.js"
import * as Representation from "./Representation.js"
import { inSlices } from "./Slices.js"

const readSubmission = jsonBody(SubmitJob)

/** What a body asks for, in a caller's name and under the idempotency key of a call. */
export const toSubmission = (
  body: SubmitJob,
  caller: string,
  idempotencyKey: string | undefined,
  call = "POST /jobs",
): Submission => ({
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
  webhook: body.webhook,
  deadlineMillis: millis(body.deadlineSeconds),
  idempotency: idempotencyKey === undefined ? undefined : idempotencyOf(idempotencyKey, call, body),
})

/** Saves the job that the current request, a `call`, asks for, in its caller's name and under its idempotency key. */
export const submit = (body: SubmitJob, call?: string) =>
  Effect.gen(function* () {
    const offload = yield* Offload
    const headers = yield* requestHeaders(SubmitHeaders)
    const caller = yield* Caller
    const rateLimit = yield* (yield* Admission).submit(caller)
    const { snapshot } = yield* offload.submit(toSubmission(body, caller.name, headers["idempotency-key"], call))
    return { snapshot, rateLimit }
  })

export const submitJob = Effect.gen(function* () {
  const { rateLimit, snapshot } = yield* submit(yield* readSubmission)
  return yield* answer(snapshot.job, Effect.succeed(snapshot), 202, rateLimit)
})

export const getJob = Effect.gen(function* () {
  const offload = yield* Offload
  const job = yield* ownJob
  return yield* answer(job, offload.get(job.id), 200)
})

export const listJobs = Effect.gen(function* () {
  const offload = yield* Offload
  const query = yield* Effect.mapError(decodeQuery(yield* queryParameters), (error) =>
    fromParseError("invalid-parameter", error),
  )
  const { name: caller } = yield* Caller
  const page = yield* offload.list({ caller, ...query })
  return json({ jobs: page.jobs.map(Representation.jobSummary), cursor: page.cursor })
})

/** Those of the current request, before they are decoded. */
export const queryParameters = Effect.filterOrFail(
  HttpServerRequest.ParsedSearchParams,
  (parameters) => excessOf(parameters) === null,
  () => tooMany("invalid-parameter", ""),
)

const decodeQuery = Schema.decodeUnknown(ListQuery, { errors: "all", onExcessProperty: "error" })

export const cancelJob = Effect.gen(function* () {
  const offload = yield* Offload
  const { id } = yield* ownJob
  const snapshot = yield* offload.cancel(id)
  return json(Representation.job(snapshot), isTerminal(snapshot.job.status) ? 200 : 202, pace(snapshot))
})

/**
 * A job that has failed or was cancelled, once more: as a new job with what the old one was given. A delivery stays the
 * one that it is, since its receiver knows it by its id.
 */
export const retryJob = Effect.gen(function* () {
  const offload = yield* Offload
  const { deliveryOf, id, status } = yield* ownJobOrDelivery
  if (status !== "failed" && status !== "cancelled") {
    return yield* new Problem({ slug: "job-not-failed", detail: `Job '${id}' is ${status}.` })
  }
  if (deliveryOf !== null) {
    const rateLimit = yield* (yield* Admission).submit(yield* Caller)
    const delivery = yield* offload.redeliver(id)
    return yield* answer(delivery.job, Effect.succeed(delivery), 202, rateLimit)
  }
  const { rateLimit, snapshot } = yield* submit(again(yield* offload.get(id)), `POST /jobs/${id}/retry`)
  return yield* answer(snapshot.job, Effect.succeed(snapshot), 202, rateLimit)
})

const again = ({ input, job }: Snapshot): SubmitJob => ({
  ...input,
  resource: job.resource,
  metadata: job.metadata,
  maxAttempts: job.maxAttempts,
  timeoutSeconds: job.timeoutMillis / 1000,
  ...(job.maxCostUsd === null ? {} : { maxCostUsd: job.maxCostUsd }),
  ...(job.deadlineAt === null ? {} : { deadlineSeconds: (job.deadlineAt - job.createdAt) / 1000 }),
  ...(job.webhook === null ? {} : { webhook: { url: job.webhook.url } }),
})

export const deleteJob = Effect.gen(function* () {
  const offload = yield* Offload
  const { id } = yield* ownJob
  yield* offload.remove(id)
  return HttpServerResponse.empty({ status: 204 })
})

export const requestHeaders = <A, I>(schema: Schema.Schema<A, I>) =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers }) =>
    Effect.mapError(Schema.decodeUnknown(schema, { errors: "all" })(headers), (error) =>
      fromParseError("invalid-parameter", error),
    ),
  )

export const json = (body: unknown, status?: number, headers?: Readonly<Record<string, string>>) =>
  respond(jsonAnswer(body, status, headers))

/** The answer to a submission whose caller does not wait. */
export const accepted = (snapshot: Snapshot, headers: RateLimitFields): Answer =>
  jsonAnswer(Representation.job(snapshot), isTerminal(snapshot.job.status) ? 200 : 202, {
    location: `/jobs/${snapshot.job.id}`,
    ...pace(snapshot),
    ...headers,
  })

/**
 * Answers a job, `now` or after the wait that the caller asked for; `pending` is the status of one that has not ended.
 */
const answer = <E, R>(
  { caller, id, status }: Job,
  now: Effect.Effect<Snapshot, E, R>,
  pending: 200 | 202,
  headers: RateLimitFields = {},
) =>
  Effect.gen(function* () {
    const offload = yield* Offload
    const request = yield* HttpServerRequest.HttpServerRequest
    const asked = waitSeconds(request.headers.prefer)
    const isOver = isTerminal(status)
    // A preference may be left aside (RFC 7240): where no further wait may be open, the answer comes at once.
    const wait = asked === null || isOver || (yield* (yield* Admission).wait(caller)) ? asked : null
    const last = yield* wait === null || isOver ? now : inSlices(offload.awaitEnd(id, wait * 1000))
    return HttpServerResponse.uint8Array(bodyOf(last), {
      status: isTerminal(last.job.status) ? 200 : pending,
      contentType: "application/json",
      headers: {
        "cache-control": "no-store",
        ...(pending === 202 ? { location: `/jobs/${id}` } : {}),
        ...(wait === null ? {} : { "preference-applied": `wait=${wait}` }),
        ...pace(last),
        ...headers,
      },
    })
  }).pipe(Effect.scoped)

/** When to ask again, in seconds: soon while it runs, later the longer it has to wait. */
const pace = ({ job, queue }: Snapshot): Readonly<Record<string, string>> => {
  if (isTerminal(job.status)) return {}
  const wait = queue?.expectedStartAt == null ? 0 : queue.expectedStartAt - Date.now()
  return { "retry-after": String(Math.min(60, Math.max(1, Math.ceil(wait / 1000)))) }
}

/** Those who waited for the same end are handed the same bytes. */
const bodies = new WeakMap<Snapshot, Uint8Array>()

const bodyOf = (snapshot: Snapshot): Uint8Array => {
  const body = bodies.get(snapshot) ?? Buffer.from(JSON.stringify(Representation.job(snapshot)))
  bodies.set(snapshot, body)
  return body
}

const millis = (seconds: number | undefined) => (seconds === undefined ? undefined : Math.round(seconds * 1000))
