/**
 * The HTTP contract: paths, schemas and status codes, and nothing that runs. A client imports this alone.
 * Times are RFC 3339 strings in UTC, durations are seconds.
 */
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { DoneEvent, OutputEvent, StatusEvent } from "./Api/Event.js"
import { type ProblemSlug, schemaOf } from "./Api/Problem.js"
import { Time } from "./Api/Time.js"
import { AttemptOutcome, Ending, Failure, JobId, Metadata, ModelName, ResourceName, Status, Usage } from "./Job.js"

const Seconds = (min: number, max: number, description: string) =>
  Schema.Number.pipe(
    Schema.between(min, max, { message: () => `Expected a number of seconds from ${min} to ${max}` }),
  ).annotations({ description })

const Text = (max: number, description: string) =>
  Schema.String.pipe(Schema.minLength(1), Schema.maxLength(max)).annotations({ description })

/** At most 16 labels; names of 1-64 characters, values of at most 512. */
const SubmittedMetadata = Schema.Record({
  key: Schema.String.pipe(Schema.minLength(1), Schema.maxLength(64)),
  value: Schema.String.pipe(Schema.maxLength(512)),
}).pipe(
  Schema.filter((labels) => Object.keys(labels).length <= 16, {
    message: () => "at most 16 labels",
    jsonSchema: { maxProperties: 16 },
  }),
)

/** Some command lines take it as an argument, which Linux limits to 128 KiB and to what is no NUL. */
const SystemPrompt = Schema.String.pipe(
  Schema.minLength(1),
  Schema.maxLength(100_000),
  Schema.filter((text) => !text.includes("\0") && new TextEncoder().encode(text).byteLength <= 100_000, {
    message: () => "at most 100000 bytes of UTF-8, without NUL",
  }),
).annotations({ description: "The system prompt: at most 100000 bytes of UTF-8" })

const isWebhookUrl = (text: string): boolean => {
  if (!URL.canParse(text)) return false
  const { password, protocol, username } = new URL(text)
  return (protocol === "https:" || protocol === "http:") && username === "" && password === ""
}

/** Whatever the service may send to: which hosts those are, its settings say. */
const WebhookUrl = Schema.String.pipe(
  Schema.maxLength(2000),
  Schema.filter(isWebhookUrl, {
    message: () =>
      "an https: URL of at most 2000 characters, without credentials, or http: where the service allows it",
    jsonSchema: { format: "uri" },
  }),
).annotations({ description: "Where a signed message of the job's end is posted to" })

const maxCostMessage = "Expected a number above 0, at most 1000000"

/** What `POST /jobs` takes. Unknown members are refused. */
export const SubmitJob = Schema.Struct({
  prompt: Schema.String.pipe(Schema.minLength(1)).annotations({ description: "What the work is given" }),
  resource: Schema.optional(ResourceName),
  model: Schema.optional(ModelName),
  system: Schema.optional(SystemPrompt),
  metadata: Schema.optionalWith(SubmittedMetadata, { default: () => ({}) }),
  timeoutSeconds: Schema.optional(Seconds(0.1, 86_400, "The longest that one attempt may run")),
  deadlineSeconds: Schema.optional(
    Seconds(0.1, 31_536_000, "The longest until the job must have ended, waiting included"),
  ),
  maxCostUsd: Schema.optional(
    Schema.Number.pipe(
      Schema.positive({ message: () => maxCostMessage }),
      Schema.lessThanOrEqualTo(1_000_000, { message: () => maxCostMessage }),
    ).annotations({
      description: "What all of its attempts together may cost, in US dollars, where the command line tells",
    }),
  ),
  webhook: Schema.optional(Schema.Struct({ url: WebhookUrl })),
  maxAttempts: Schema.optional(
    Schema.Int.pipe(Schema.between(1, 100)).annotations({
      description:
        "How many attempts may fail before the job does. Refused, interrupted and orphaned ones do not count",
    }),
  ),
}).annotations({ identifier: "SubmitJob" })
export type SubmitJob = typeof SubmitJob.Type

/** One try of a job. */
export const Attempt = Schema.Struct({
  attempt: Schema.Int,
  adapter: Schema.String.annotations({ description: "What ran it, such as 'claude', or 'demo' for the demo model" }),
  startedAt: Time,
  finishedAt: Schema.NullOr(Time),
  outcome: Schema.NullOr(AttemptOutcome),
  cause: Schema.NullOr(Failure),
  usage: Schema.NullOr(Usage),
  ending: Schema.NullOr(Ending).annotations({
    description: "How its processes were ended; null where they ended by themselves",
  }),
  alone: Schema.optional(
    Schema.Boolean.annotations({
      description: "Nothing else ran in its process: the job was running in two deaths of the service before",
    }),
  ),
}).annotations({ identifier: "Attempt" })

const summary = {
  id: JobId,
  resource: Schema.String,
  status: Status,
  attempt: Schema.Int.annotations({ description: "The number of the newest attempt; 0 before the first" }),
  maxAttempts: Schema.Int,
  timeoutSeconds: Schema.Number,
  maxCostUsd: Schema.NullOr(Schema.Number),
  createdAt: Time,
  startedAt: Schema.NullOr(Time),
  finishedAt: Schema.NullOr(Time),
  cancelRequestedAt: Schema.NullOr(Time),
  retryAt: Schema.NullOr(Time).annotations({ description: "While queued after a failure: when the backoff ends" }),
  deadlineAt: Schema.NullOr(Time),
  metadata: Metadata,
  error: Schema.NullOr(Failure),
}

/** A job in a listing: without its input, its output and its attempts. */
export const JobSummary = Schema.Struct(summary).annotations({ identifier: "JobSummary" })

/** What became of telling a receiver of the job's end. */
export const Webhook = Schema.Struct({
  url: Schema.String,
  id: JobId.annotations({ description: "The `webhook-id` of every attempt: the id of the delivery, a job of its own" }),
  status: Schema.Literal("waiting", ...Status.literals, "removed").annotations({
    description: "`waiting`: the job has not ended; then that of the delivery, `succeeded` where a receiver took it",
  }),
  attempts: Schema.Int,
  error: Schema.NullOr(Failure).annotations({
    description: "Why the newest attempt failed; `httpStatus` is its answer",
  }),
  retryAt: Schema.NullOr(Time),
  finishedAt: Schema.NullOr(Time),
}).annotations({ identifier: "Webhook" })

/** A job. */
export const Job = Schema.Struct({
  ...summary,
  input: Schema.Struct({
    prompt: Schema.String,
    model: Schema.optional(Schema.String),
    system: Schema.optional(Schema.String),
  }),
  output: Schema.NullOr(
    Schema.Struct({ text: Schema.String, truncated: Schema.Boolean, usage: Schema.NullOr(Usage) }),
  ).annotations({ description: "The answer of the newest attempt, as far as it has come" }),
  attempts: Schema.Array(Attempt),
  webhook: Schema.NullOr(Webhook),
  deliveryOf: Schema.NullOr(JobId).annotations({ description: "Of a delivery: the job whose end it tells" }),
  position: Schema.optional(
    Schema.NullOr(Schema.Int).annotations({
      description: "While queued: its place, from 1; exact up to 10001; null in backoff",
    }),
  ),
  expectedStartAt: Schema.optional(
    Schema.NullOr(Time).annotations({ description: "While queued: when it is expected to begin; null if not known" }),
  ),
}).annotations({ identifier: "Job" })

export const JobPage = Schema.Struct({
  jobs: Schema.Array(JobSummary),
  cursor: Schema.NullOr(Schema.String).annotations({ description: "The next page's cursor; null on the last page" }),
}).annotations({ identifier: "JobPage" })

export const Resource = Schema.Struct({
  name: Schema.String,
  adapter: Schema.String,
  command: Schema.String,
  permits: Schema.Int.annotations({ description: "How many of its jobs run at once" }),
  running: Schema.Int,
  queued: Schema.Int,
  serviceSeconds: Schema.NullOr(Schema.Number).annotations({
    description: "How long a permit is held: a moving average; null before the first job",
  }),
  heldUntil: Schema.NullOr(Time).annotations({
    description: "Until when none of its jobs is begun, because its downstream said so; null where nothing holds them",
  }),
}).annotations({ identifier: "Resource" })

/** What `PATCH /resources/{name}` takes. */
export const PatchResource = Schema.Struct({
  permits: Schema.optional(Schema.Int.pipe(Schema.between(1, 1000))),
  heldUntil: Schema.optional(
    Schema.Null.annotations({
      description: "`null` ends what holds the resource, and the waiting of its jobs that were refused",
    }),
  ),
}).annotations({ identifier: "PatchResource" })

export const Health = Schema.Struct({ status: Schema.Literal("live", "ready") }).annotations({ identifier: "Health" })

export const ListQuery = Schema.Struct({
  status: Schema.optional(Status),
  resource: Schema.optional(ResourceName),
  limit: Schema.optionalWith(
    Schema.NumberFromString.pipe(Schema.int(), Schema.between(1, 100)).annotations({
      description: "How many jobs a page has",
      jsonSchema: { type: "integer", minimum: 1, maximum: 100, default: 20 },
    }),
    { default: () => 20 },
  ),
  cursor: Schema.optional(
    Schema.String.pipe(Schema.maxLength(200)).annotations({ description: "The `cursor` of the page before" }),
  ),
})

const JobPath = Schema.Struct({ id: Schema.String.annotations({ description: "The id of a job" }) })
const ResourcePath = Schema.Struct({ name: Schema.String.annotations({ description: "The name of a resource" }) })

const Prefer = Schema.optional(
  Schema.String.annotations({
    description: "`wait=N` (RFC 7240): wait up to N seconds, at most 60, for the job's end",
  }),
)

export const SubmitHeaders = Schema.Struct({
  "idempotency-key": Schema.optional(Text(255, "The same key and body give the same job for 24 hours")),
  prefer: Prefer,
})

export const EventsHeaders = Schema.Struct({
  "last-event-id": Schema.optional(
    Schema.NumberFromString.pipe(Schema.int(), Schema.nonNegative()).annotations({
      description: "The stream goes on after this event",
      jsonSchema: { type: "integer", minimum: 0 },
    }),
  ),
})

/** A further annotation of a schema takes its identifier away: it is given again. */
const jobAt = (status: number) => Job.annotations(HttpApiSchema.annotations({ status, identifier: "Job" }))

const EventStream = HttpApiSchema.Text({ contentType: "text/event-stream" }).annotations({
  description: "`status`, `output` and `done` events, and a comment as heartbeat each 15 s",
})

const Html = HttpApiSchema.Text({ contentType: "text/html" })

const problem = <const Slugs extends readonly [ProblemSlug, ...ReadonlyArray<ProblemSlug>]>(...slugs: Slugs) =>
  Schema.Union(...slugs.map((slug) => schemaOf<Slugs[number]>(slug)))

/** What any call can be answered with. */
export const AnyCallProblem = problem(
  "starting",
  "store-unavailable",
  "store-full",
  "internal",
  "misdirected-request",
  "unauthorized",
  "invalid-parameter",
  "too-many-unread",
)

/** What the event stream can be answered with beside. */
export const JobEventsProblem = problem("job-not-found", "invalid-parameter", "too-many-streams")

const jobs = HttpApiGroup.make("jobs")
  .annotate(OpenApi.Description, "Work that was submitted; a caller sees its own jobs alone")
  .add(
    HttpApiEndpoint.post("submitJob", "/jobs")
      .setHeaders(SubmitHeaders)
      .setPayload(SubmitJob)
      .addSuccess(jobAt(202))
      .addSuccess(jobAt(200))
      .addError(
        problem(
          "foreign-origin",
          "invalid-json",
          "invalid-request",
          "invalid-parameter",
          "unknown-resource",
          "submission-not-allowed",
          "webhook-not-allowed",
          "webhooks-not-configured",
          "idempotency-conflict",
          "job-gone",
          "maybe-saved",
          "too-many-bytes",
          "body-too-large",
          "unsupported-media-type",
          "queue-full",
          "too-many-submissions",
        ),
      )
      .annotate(OpenApi.Summary, "Submit a job: saved durably, answered 202, run behind the resource's permits"),
  )
  .add(
    HttpApiEndpoint.get("getJob", "/jobs/:id")
      .setPath(JobPath)
      .setHeaders(Schema.Struct({ prefer: Prefer }))
      .addSuccess(Job)
      .addError(problem("job-not-found", "invalid-parameter"))
      .annotate(OpenApi.Summary, "A job"),
  )
  .add(
    HttpApiEndpoint.get("listJobs", "/jobs")
      .setUrlParams(ListQuery)
      .addSuccess(JobPage)
      .addError(problem("invalid-parameter"))
      .annotate(OpenApi.Summary, "Jobs, newest first"),
  )
  .add(
    HttpApiEndpoint.post("cancelJob", "/jobs/:id/cancel")
      .setPath(JobPath)
      .addSuccess(jobAt(202))
      .addSuccess(jobAt(200))
      .addError(problem("job-not-found", "foreign-origin"))
      .annotate(OpenApi.Summary, "Cancel a job: 200 when it has ended, 202 while its processes are being ended"),
  )
  .add(
    HttpApiEndpoint.post("retryJob", "/jobs/:id/retry")
      .setPath(JobPath)
      .setHeaders(SubmitHeaders)
      .addSuccess(jobAt(202))
      .addSuccess(jobAt(200))
      .addError(
        problem(
          "foreign-origin",
          "job-not-found",
          "job-not-failed",
          "invalid-parameter",
          "unknown-resource",
          "submission-not-allowed",
          "idempotency-conflict",
          "job-gone",
          "maybe-saved",
          "too-many-bytes",
          "webhooks-not-configured",
          "webhook-not-allowed",
          "queue-full",
          "too-many-submissions",
        ),
      )
      .annotate(
        OpenApi.Summary,
        "Try a job again that has failed or was cancelled: as a new job, answered 202; a delivery as itself",
      ),
  )
  .add(
    HttpApiEndpoint.del("deleteJob", "/jobs/:id")
      .setPath(JobPath)
      .addSuccess(HttpApiSchema.NoContent)
      .addError(problem("job-not-found", "job-not-terminal", "foreign-origin"))
      .annotate(OpenApi.Summary, "Remove a job that has ended"),
  )
  .add(
    HttpApiEndpoint.get("jobEvents", "/jobs/:id/events")
      .setPath(JobPath)
      .setHeaders(EventsHeaders)
      .addSuccess(EventStream)
      .addSuccess(HttpApiSchema.NoContent)
      .addError(JobEventsProblem)
      .annotate(OpenApi.Summary, "A job's life as server-sent events: `status`, `output`, `done`"),
  )

const resources = HttpApiGroup.make("resources")
  .annotate(OpenApi.Description, "What jobs run on, each with its permits")
  .add(
    HttpApiEndpoint.get("listResources", "/resources")
      .addSuccess(Schema.Struct({ resources: Schema.Array(Resource) }))
      .annotate(OpenApi.Summary, "What each resource is doing"),
  )
  .add(
    HttpApiEndpoint.patch("patchResource", "/resources/:name")
      .setPath(ResourcePath)
      .setPayload(PatchResource)
      .addSuccess(Resource)
      .addError(
        problem(
          "foreign-origin",
          "forbidden",
          "resource-not-found",
          "invalid-json",
          "invalid-request",
          "body-too-large",
          "unsupported-media-type",
        ),
      )
      .annotate(OpenApi.Summary, "Change a resource's permits until the next start, or end what holds it"),
  )

const operations = HttpApiGroup.make("operations")
  .annotate(OpenApi.Description, "Health, and what there is to read; open without a key")
  .add(
    HttpApiEndpoint.get("live", "/health/live")
      .addSuccess(Health)
      .annotate(OpenApi.Summary, "Whether the process answers"),
  )
  .add(
    HttpApiEndpoint.get("ready", "/health/ready")
      .addSuccess(Health)
      .addError(problem("draining", "cannot-run"))
      .annotate(
        OpenApi.Summary,
        "Whether work is taken on: the store takes writes, the machine can run a job, and no drain has begun",
      ),
  )
  .add(
    HttpApiEndpoint.get("metrics", "/metrics")
      .addSuccess(HttpApiSchema.Text({ contentType: "text/plain; version=0.0.4" }))
      .addError(problem("forbidden"))
      .annotate(OpenApi.Summary, "Everything that the service counts, in the text format of Prometheus"),
  )
  .add(
    HttpApiEndpoint.get("problemPage", "/problems/:slug")
      .setPath(Schema.Struct({ slug: Schema.String }))
      .addSuccess(Html)
      .addError(problem("not-found"))
      .annotate(OpenApi.Summary, "What a problem or an error tag means"),
  )
  .add(
    HttpApiEndpoint.get("openApi", "/openapi.json")
      .addSuccess(Schema.Struct({ openapi: Schema.String }, { key: Schema.String, value: Schema.Unknown }))
      .annotate(OpenApi.Summary, "This contract as OpenAPI 3.1"),
  )
  .add(HttpApiEndpoint.get("docs", "/docs").addSuccess(Html).annotate(OpenApi.Summary, "This contract as a page"))
  .add(
    HttpApiEndpoint.get("docsAsset", "/docs/:file")
      .setPath(Schema.Struct({ file: Schema.String }))
      .addSuccess(Schema.String)
      .addError(problem("not-found"))
      // A part of the page at /docs, and no call.
      .annotate(OpenApi.Exclude, true),
  )

/** That of the package. */
export const version = "0.1.0"

/** Calls that tell nothing of anybody: they need no key. */
export const isOpen = (path: string): boolean => /^\/(?:health\/|problems\/|openapi\.json|docs(?:[/?]|$))/.test(path)

/** The whole contract. */
export class Api extends HttpApi.make("offload")
  .add(jobs)
  .add(resources)
  .add(operations)
  .addError(AnyCallProblem)
  .annotate(HttpApi.AdditionalSchemas, [StatusEvent, OutputEvent, DoneEvent])
  .annotate(OpenApi.Title, "Offload")
  .annotate(OpenApi.Version, version)
  .annotate(OpenApi.License, { name: "MIT", url: "https://opensource.org/license/mit" })
  .annotate(OpenApi.Description, "Takes slow work off the request path without ever losing it.") {}
