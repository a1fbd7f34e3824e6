/**
 * Every problem document that a call can be answered with (RFC 9457). The table is the truth: status codes, the pages
 * under `/problems` and the OpenAPI file are made from it.
 */
import { HttpApiSchema } from "@effect/platform"
import { ParseResult, Schema } from "effect"

interface Definition {
  readonly status: number
  readonly title: string
  /** When it is given, what was kept, and what to do. */
  readonly doc: string
}

export const problems = {
  "invalid-json": {
    status: 400,
    title: "The body is not JSON",
    doc: "The body could not be read as UTF-8 encoded JSON, or is nested more than 64 deep. Nothing was saved. Send a JSON object.",
  },
  "invalid-request": {
    status: 422,
    title: "The request is not valid",
    doc: "A member of the body has a wrong value, is missing, or is unknown; `errors` names the first twenty. Or an object has more than 64 members, or the body more than 10000 values. Nothing was saved.",
  },
  "invalid-parameter": {
    status: 400,
    title: "A parameter is not valid",
    doc: "A query parameter or a header has a wrong value or is there twice, or a query parameter is unknown, or there are more than 64 of them; `errors` names the first twenty where it can. Nothing was changed.",
  },
  "unknown-resource": {
    status: 422,
    title: "There is no such resource",
    doc: "The job names a resource that the service does not have; `known` lists those that it has. Nothing was saved.",
  },
  "submission-not-allowed": {
    status: 422,
    title: "The job asks for more than is allowed",
    doc: "A `timeoutSeconds` above OFFLOAD_MAX_TIMEOUT_SECONDS, a `maxAttempts` above OFFLOAD_MAX_ATTEMPTS_LIMIT, or a `model` that is not among the `models` of its resource in OFFLOAD_RESOURCES; `errors` says which, and what is allowed. Nothing was saved.",
  },
  "idempotency-conflict": {
    status: 422,
    title: "The Idempotency-Key was used for another submission",
    doc: "The same key came with another body, or for another call, before its job had ended for 24 hours. The first job is unchanged and nothing was saved: use a new key.",
  },
  "job-gone": {
    status: 410,
    title: "The job of the Idempotency-Key was removed",
    doc: "The same submission came under the same key before. Its job, `jobId`, has ended and was removed, by DELETE or when its retention ended. Nothing was saved, and nothing runs again: use a new key for that.",
  },
  "webhook-not-allowed": {
    status: 422,
    title: "The webhook is not allowed",
    doc: "The service sends to public addresses by `https:` alone, unless OFFLOAD_WEBHOOK_ALLOW_HOSTS names the host or its range. Nothing was saved.",
  },
  "webhooks-not-configured": {
    status: 422,
    title: "Webhooks are not configured",
    doc: "The job has a `webhook`, and the service has no OFFLOAD_WEBHOOK_SECRET to sign it with. Nothing was saved: submit without it, and ask with `GET /jobs/{id}`.",
  },
  unauthorized: {
    status: 401,
    title: "A key is needed",
    doc: "The request bears no key that the service knows. Send `Authorization: Bearer` and a key of OFFLOAD_API_KEYS. Nothing was done.",
  },
  "foreign-origin": {
    status: 403,
    title: "A web page of this origin may change nothing",
    doc: "A browser sent the request for a page of another origin, as its `Origin` or `Sec-Fetch-Site` says, and OFFLOAD_CORS_ORIGINS does not name that origin. Nothing was changed.",
  },
  forbidden: {
    status: 403,
    title: "The key does not allow this",
    doc: "The call is for admins: a caller whose `admin` is true in OFFLOAD_API_KEYS. Nothing was changed.",
  },
  "job-not-found": {
    status: 404,
    title: "There is no such job",
    doc: "No job has this id, or it was removed: by DELETE, or when its retention ended.",
  },
  "resource-not-found": {
    status: 404,
    title: "There is no such resource",
    doc: "No resource has this name. `GET /resources` lists those that there are.",
  },
  "not-found": {
    status: 404,
    title: "There is nothing here",
    doc: "No call has this path.",
  },
  "method-not-allowed": {
    status: 405,
    title: "The path does not take this method",
    doc: "`Allow` lists the methods that it takes. Nothing was changed.",
  },
  "job-not-terminal": {
    status: 409,
    title: "The job has not ended",
    doc: "Only a job that has ended can be removed. Cancel it first, and wait for `cancelled`. Nothing was changed.",
  },
  "job-not-failed": {
    status: 409,
    title: "The job has not failed",
    doc: "Only a job that has failed or was cancelled can be tried again. Nothing was saved.",
  },
  "body-too-large": {
    status: 413,
    title: "The body is too large",
    doc: "The body passed OFFLOAD_MAX_BODY_BYTES, which `limitBytes` repeats. Nothing was saved, and the connection is closed.",
  },
  "unsupported-media-type": {
    status: 415,
    title: "The body must be JSON",
    doc: "Send `Content-Type: application/json`. Nothing was saved.",
  },
  "misdirected-request": {
    status: 421,
    title: "The Host is not this service's",
    doc: "The `Host` is missing, is there twice, or is none of the service's names: without keys those of loopback, and those of OFFLOAD_HOSTS. This keeps web pages of other sites out.",
  },
  "queue-full": {
    status: 429,
    title: "The queue is full",
    doc: "The resource has OFFLOAD_MAX_QUEUED jobs waiting, or the caller OFFLOAD_MAX_QUEUED_PER_CALLER. Nothing was saved: try again after `Retry-After` seconds.",
  },
  "too-many-submissions": {
    status: 429,
    title: "Too many submissions in a short time",
    doc: "The caller has submitted OFFLOAD_MAX_SUBMISSIONS_PER_MINUTE jobs; the `RateLimit` fields say how many are left. Nothing was saved: try again after `Retry-After` seconds.",
  },
  "too-many-streams": {
    status: 429,
    title: "Too many event streams are open",
    doc: "OFFLOAD_MAX_STREAMS event streams and waits are open, or OFFLOAD_MAX_STREAMS_PER_CALLER of the caller. Close one, or ask with `GET /jobs/{id}` and `Prefer: wait`.",
  },
  "too-many-unread": {
    status: 429,
    title: "Too many answers wait to be read",
    doc: "OFFLOAD_MAX_UNREAD_BYTES of earlier answers wait for clients that do not read them, or half of it for the caller's. What the call asked for is done; `Location` names a job that was saved. Read them, or close their connections, and ask again.",
  },
  "too-many-bytes": {
    status: 429,
    title: "The caller's jobs take too much room",
    doc: "The jobs that are kept for the caller have OFFLOAD_MAX_BYTES_PER_CALLER bytes, or would have more with this one; `limitBytes` repeats the limit. Nothing was saved: remove jobs that have ended, or wait for the end of their retention.",
  },
  "malformed-http": {
    status: 400,
    title: "This is not HTTP",
    doc: "The request could not be read as HTTP/1.1, came too slowly, or its header is too large. The connection is closed.",
  },
  internal: {
    status: 500,
    title: "The service has a bug",
    doc: "Something happened that nobody foresaw; the service's log has it. A job that was accepted before is kept.",
  },
  "store-unavailable": {
    status: 503,
    title: "The store is out of reach",
    doc: "The store could not read or write. No job was saved; every other call may be repeated after `Retry-After` seconds.",
  },
  "maybe-saved": {
    status: 503,
    title: "The job may have been saved",
    doc: "The store did not answer. The job may have been saved, with the id `jobId`, and then it runs. Repeat the request with the same Idempotency-Key: it is one job, however often it is sent. Without a key a repetition may run the work twice: ask with `GET /jobs/{jobId}` until the store answers; after a minute, 404 says that it was not saved. Send a key with each submission.",
  },
  "store-full": {
    status: 503,
    title: "The store is full",
    doc: "The store's disk or memory is nearly full, or its jobs have OFFLOAD_MAX_STORE_BYTES bytes. Nothing was saved or changed. Jobs can be read, cancelled and removed, and those that run end. The service takes jobs on again by itself when there is room.",
  },
  starting: {
    status: 503,
    title: "The service is starting",
    doc: "The service has its port, and does not answer calls yet: it opens its store, and rescues what an earlier run left. Nothing was done: try again after `Retry-After` seconds.",
  },
  draining: {
    status: 503,
    title: "The service is draining",
    doc: "The service is about to end and takes no permits any more. Jobs that were accepted are kept, and run after the next start.",
  },
  "cannot-run": {
    status: 503,
    title: "No job can be run here",
    doc: "The machine starts no job's process now: a temporary or working folder is gone, or it has no room for a process; or, in a fleet, Redis answers no look for work. The service's log names it. Jobs are kept, and begin when that is mended.",
  },
} as const satisfies Record<string, Definition>

export type ProblemSlug = keyof typeof problems

/** The media type of a problem document. */
export const mediaType = "application/problem+json"

/** The members that some problems have beside those of RFC 9457. */
export const Extensions = Schema.Struct({
  /** What is wrong, member by member. */
  errors: Schema.optional(Schema.Array(Schema.Struct({ pointer: Schema.String, detail: Schema.String }))),
  known: Schema.optional(Schema.Array(Schema.String)),
  limitBytes: Schema.optional(Schema.Int),
  /** The job that the problem is about. */
  jobId: Schema.optional(Schema.String),
})
export type Extensions = typeof Extensions.Type

/** The URI reference of a problem, which resolves to its page. */
export const typeOf = <Slug extends ProblemSlug>(slug: Slug) => `/problems/${slug}` as const

/** The schema of one problem document, with its status. */
export const schemaOf = <Slug extends ProblemSlug>(slug: Slug) =>
  Schema.Struct({
    type: Schema.Literal(typeOf(slug)),
    title: Schema.String,
    status: Schema.Literal<[(typeof problems)[Slug]["status"]]>(problems[slug].status),
    detail: Schema.String,
    ...Extensions.fields,
  })
    .pipe(HttpApiSchema.withEncoding({ kind: "Json", contentType: mediaType }))
    .annotations(
      HttpApiSchema.annotations({
        // Last, because a further annotation of a schema takes its identifier away.
        identifier: `Problem.${slug}`,
        status: problems[slug].status,
        description: `${problems[slug].title}. ${problems[slug].doc}`,
      }),
    )

/** How many members are named: who has more to mend finds the rest with the next request. */
const maxRefused = 20

/** The longest pointer that is told: the name of an unknown member may be as long as a body. */
const maxPointer = 200

/**
 * What a schema refused, each member named by its JSON pointer (RFC 6901): the first twenty. Looks at no more than ten
 * times as many issues, because it sets each beside the others.
 */
export const refusedMembers = (error: ParseResult.ParseError): NonNullable<Extensions["errors"]> => {
  const issues = ParseResult.ArrayFormatter.formatErrorSync(error).slice(0, 10 * maxRefused)
  return issues
    .filter((issue) => !issues.some((other) => saysBetter(other, issue)))
    .slice(0, maxRefused)
    .map(({ message, path }) => ({
      pointer: path
        .map((part) => `/${String(part).slice(0, maxPointer).replaceAll("~", "~0").replaceAll("/", "~1")}`)
        .join("")
        .slice(0, maxPointer),
      detail: message.replace(actual, "").slice(0, 200),
    }))
}

type Issue = ParseResult.ArrayFormatterIssue

/** An optional member that is wrong is also said not to be absent: what is wrong with it says it better. */
const saysBetter = (other: Issue, issue: Issue): boolean =>
  isInside(issue.path, other.path) ||
  (isAbsence(issue) && !isAbsence(other) && issue.path.length === other.path.length && starts(issue.path, other.path))

const isAbsence = ({ message }: Issue): boolean => message.startsWith("Expected undefined")

/** What the value was, unless that is a number or the like: a text may be a prompt, which no answer repeats. */
const actual = /, actual (?!(?:[\d.e+-]+|true|false|null|undefined)$).*$/s

const starts = (path: ReadonlyArray<PropertyKey>, other: ReadonlyArray<PropertyKey>): boolean =>
  path.every((part, index) => other[index] === part)

const isInside = (path: ReadonlyArray<PropertyKey>, other: ReadonlyArray<PropertyKey>): boolean =>
  other.length > path.length && starts(path, other)
