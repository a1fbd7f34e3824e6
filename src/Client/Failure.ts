/** What a call of the client fails with: a problem that the service told, or no answer of the service at all. */
import { HttpClientError } from "@effect/platform"
import { Data, ParseResult, Schema } from "effect"
import { Extensions, type ProblemSlug, problems, refusedMembers } from "../Api/Problem.js"

/**
 * The service did not do what it was asked, and said why (RFC 9457). The slugs that a call can be answered with stand
 * in its type; each has its page at `/problems/{slug}` of the service.
 */
export class ApiProblem<out Slug extends ProblemSlug = ProblemSlug> extends Data.TaggedError("ApiProblem")<{
  readonly slug: ProblemSlug
  readonly status: number
  readonly title: string
  /** What happened this time. */
  readonly detail: string
  /** The members that some problems have beside. */
  readonly extensions: Extensions
}> {
  declare readonly slug: Slug

  constructor(fields: {
    readonly slug: Slug
    readonly status: number
    readonly title: string
    readonly detail: string
    readonly extensions: Extensions
  }) {
    super(fields)
  }

  override get message(): string {
    return this.detail
  }
}

/** No answer that the contract knows: whether the service did what it was asked is not known. */
export class TransportError extends Data.TaggedError("TransportError")<{
  /** `unreachable`: no answer came, or it broke off. `unexpected`: an answer came that is not in the contract. */
  readonly reason: "unreachable" | "unexpected"
  readonly detail: string
  /** The status of an answer that is not in the contract. */
  readonly status?: number
  readonly cause?: unknown
}> {
  override get message(): string {
    return this.detail
  }
}

/** The slugs of the problem documents among the errors of a call. */
export type SlugOf<E> = E extends { readonly type: `/problems/${infer Slug extends ProblemSlug}` } ? Slug : never

/** What an error of a call of `HttpApiClient` is to the caller. */
export const toFailure = <E>(error: E): ApiProblem<SlugOf<E>> | TransportError => {
  if (error instanceof TransportError) return error
  if (HttpClientError.isHttpClientError(error)) return toTransportError(error)
  if (!isDocument(error)) return unexpected(error)
  const { type, title, status, detail, ...extensions } = error
  const slug = type.slice("/problems/".length)
  // That `E` has this document was found when it was decoded: its `type` is a literal of the contract.
  const isSlug = (slug: string): slug is SlugOf<E> => Object.hasOwn(problems, slug)
  return isSlug(slug) ? new ApiProblem({ slug, title, status, detail, extensions }) : unexpected(error)
}

const isDocument = Schema.is(
  Schema.Struct({
    type: Schema.String,
    title: Schema.String,
    status: Schema.Number,
    detail: Schema.String,
    ...Extensions.fields,
  }),
)

/** An answer that does not fit the contract: the service is of another version, or is another one. */
export const unexpected = (cause: unknown): TransportError =>
  new TransportError({
    reason: "unexpected",
    detail:
      `The answer is not in the contract: ${ParseResult.isParseError(cause) ? cause.message : String(cause)}`.slice(
        0,
        1000,
      ),
    cause,
  })

/** What the HTTP client complains of. */
export const toTransportError = (error: HttpClientError.HttpClientError): TransportError => {
  // A body that broke off has a cause; a status that the contract does not have has none.
  const isAnswered = error._tag === "ResponseError" && error.cause === undefined
  return isAnswered
    ? new TransportError({
        reason: "unexpected",
        detail: `The answer is not in the contract: status ${error.response.status}`,
        status: error.response.status,
        cause: error,
      })
    : new TransportError({ reason: "unreachable", detail: error.message, cause: error })
}

/** What the contract refuses is not sent: it is answered at once as the service would. */
export const refused =
  <const Slug extends "invalid-request" | "invalid-parameter">(slug: Slug) =>
  (error: ParseResult.ParseError): ApiProblem<Slug> => {
    const errors = refusedMembers(error)
    return new ApiProblem({
      slug,
      title: problems[slug].title,
      status: problems[slug].status,
      detail: errors.map(({ detail, pointer }) => `${pointer} ${detail}`.trim()).join("; "),
      extensions: { errors },
    })
  }

/** Whether the same call may go better in a moment: the service restarts, or its store is out of reach. */
export const isPassing = (error: ApiProblem | TransportError): boolean =>
  error._tag === "ApiProblem"
    ? error.status === 503 || error.slug === "too-many-streams"
    : error.reason === "unreachable" || (error.status !== undefined && error.status >= 502 && error.status <= 504)
