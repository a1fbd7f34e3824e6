/** Problem documents on the wire, and which problem each error of the service is. */
import type { HttpServerResponse } from "@effect/platform"
import { Data, type ParseResult } from "effect"
import { type Extensions, mediaType, type ProblemSlug, problems, refusedMembers, typeOf } from "../Api/Problem.js"
import {
  type CannotRun,
  type IdempotencyConflict,
  type JobGone,
  type JobNotFound,
  type JobNotTerminal,
  type MaybeSaved,
  type QueueFull,
  type StoreError,
  StoreFull,
  type SubmissionNotAllowed,
  type UnknownResource,
  type WebhookRefused,
  type WebhooksNotConfigured,
} from "../Offload.js"
import { type Answer, respond } from "./Answer.js"
import { maxMembers } from "./Bounds.js"

/** What a call is answered with when it cannot be done. */
export class Problem extends Data.TaggedError("Problem")<{
  readonly slug: ProblemSlug
  readonly detail: string
  readonly extensions?: Extensions
  readonly headers?: Readonly<Record<string, string>>
}> {}

/** The body of a problem document. */
export const toDocument = ({ slug, detail, extensions }: Pick<Problem, "slug" | "detail" | "extensions">) => ({
  type: typeOf(slug),
  title: problems[slug].title,
  status: problems[slug].status,
  detail,
  ...extensions,
})

export const toAnswer = (problem: Problem): Answer => ({
  status: problems[problem.slug].status,
  contentType: mediaType,
  headers: { "cache-control": "no-store", ...problem.headers },
  body: JSON.stringify(toDocument(problem)),
})

export const toResponse = (problem: Problem): HttpServerResponse.HttpServerResponse => respond(toAnswer(problem))

/** The errors that the service's calls can fail with. */
export type ServiceError =
  | CannotRun
  | IdempotencyConflict
  | JobGone
  | JobNotFound
  | JobNotTerminal
  | MaybeSaved
  | QueueFull
  | StoreError
  | StoreFull
  | SubmissionNotAllowed
  | UnknownResource
  | WebhookRefused
  | WebhooksNotConfigured

/** What each of them is to a caller. */
export const fromServiceError = (error: ServiceError): Problem => {
  switch (error._tag) {
    case "CannotRun":
      return new Problem({
        slug: "cannot-run",
        detail: error.isPublic ? error.message : "No job can be run on this machine now; see the service's log.",
        headers: { "retry-after": "5" },
      })
    case "IdempotencyConflict":
      return new Problem({ slug: "idempotency-conflict", detail: error.message })
    case "JobGone":
      return new Problem({ slug: "job-gone", detail: error.message, extensions: { jobId: error.id } })
    case "MaybeSaved":
      return new Problem({
        slug: "maybe-saved",
        detail: error.message,
        extensions: { jobId: error.id },
        // Clients that repeat by themselves must not, where that could be another job: those of OpenAI look for this.
        headers: error.keyed ? { "retry-after": "5" } : { "x-should-retry": "false" },
      })
    case "JobNotFound":
      return new Problem({ slug: "job-not-found", detail: error.message })
    case "JobNotTerminal":
      return new Problem({ slug: "job-not-terminal", detail: error.message })
    case "QueueFull":
      return queueFull(error)
    case "StoreError":
      if (error.full === true) return storeFull(new StoreFull({ scope: "machine", limitBytes: null }))
      // What the store says of itself is for the log, not for callers.
      return new Problem({
        slug: "store-unavailable",
        detail: "The store could not do this now; see the service's log.",
        headers: { "retry-after": "5" },
      })
    case "StoreFull":
      return storeFull(error)
    case "SubmissionNotAllowed":
      return new Problem({
        slug: "submission-not-allowed",
        detail: error.message,
        extensions: { errors: [{ pointer: `/${error.member}`, detail: `it may be ${error.allowed}` }] },
      })
    case "UnknownResource":
      return new Problem({ slug: "unknown-resource", detail: error.message, extensions: { known: error.known } })
    case "WebhookRefused":
      return new Problem({ slug: "webhook-not-allowed", detail: error.message })
    case "WebhooksNotConfigured":
      return new Problem({ slug: "webhooks-not-configured", detail: error.message })
  }
}

/** Room comes with the retention, or by hand: nobody needs to ask each second. */
const storeFull = ({ limitBytes, message, scope }: StoreFull): Problem =>
  new Problem({
    slug: scope === "caller" ? "too-many-bytes" : "store-full",
    detail: message,
    ...(limitBytes === null ? {} : { extensions: { limitBytes } }),
    headers: { "retry-after": "30" },
  })

/** A queue moves on with each job that ends: ask again when one has, but neither at once nor in an hour. */
const queueFull = (error: QueueFull): Problem => {
  const seconds = Math.min(60, Math.max(1, Math.ceil((error.retryAfterMillis ?? 10_000) / 1000)))
  return new Problem({
    slug: "queue-full",
    detail: error.message,
    headers: {
      "retry-after": String(seconds),
      "ratelimit-policy": `"queue";q=${error.limit}`,
      ratelimit: `"queue";r=0;t=${seconds}`,
    },
  })
}

/** A value that its schema refused: `errors` names each member by its JSON pointer (RFC 6901). */
export const fromParseError = (
  slug: "invalid-request" | "invalid-parameter",
  error: ParseResult.ParseError,
): Problem => {
  const errors = refusedMembers(error)
  return new Problem({
    slug,
    detail: errors
      .map(({ detail, pointer }) => (pointer === "" ? detail : `${pointer.slice(1)}: ${detail}`))
      .join("; ")
      .slice(0, 1000),
    extensions: { errors },
  })
}

/** An object of a body, named by its JSON pointer, or a query, with more members than any call knows. */
export const tooMany = (slug: "invalid-request" | "invalid-parameter", pointer: string): Problem => {
  const at = pointer.slice(0, 200)
  return new Problem({
    slug,
    detail: `${at === "" ? "It" : at.slice(1)} has more than ${maxMembers} members.`,
    extensions: { errors: [{ pointer: at, detail: `at most ${maxMembers} members` }] },
  })
}
