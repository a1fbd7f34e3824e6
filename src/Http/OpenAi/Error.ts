/** Errors as OpenAI's API writes them: `{error: {message, type, param, code}}`. */
import { HttpServerResponse } from "@effect/platform"
import { Data, ParseResult } from "effect"
import { problems } from "../../Api/Problem.js"
import type { Problem } from "../Problem.js"

/** What a call under `/v1` is answered with when it cannot be done. */
export class OpenAiError extends Data.TaggedError("OpenAiError")<{
  readonly status: number
  readonly code: string
  readonly message: string
  /** The field of the request that is at fault, such as `input[0].role`; `null` where none is. */
  readonly param: string | null
  readonly headers?: Readonly<Record<string, string>>
}> {}

export const toResponse = ({ code, headers, message, param, status }: OpenAiError) =>
  HttpServerResponse.text(JSON.stringify({ error: { message, type: typeOf(status), param, code } }), {
    status,
    contentType: "application/json",
    headers: { "cache-control": "no-store", ...headers },
  })

const typeOf = (status: number): string =>
  status === 429 ? "rate_limit_error" : status >= 500 ? "server_error" : "invalid_request_error"

/** A problem of the service's other calls in this shape. What is 422 there is 400 here, as this API has it. */
export const fromProblem = ({ detail, extensions, headers, slug }: Problem): OpenAiError => {
  const status = problems[slug].status === 422 ? 400 : problems[slug].status
  const pointer = extensions?.errors?.[0]?.pointer
  return new OpenAiError({
    status,
    code: codes[status] ?? slug.replaceAll("-", "_"),
    message: detail,
    param: pointer === undefined || pointer === "" ? null : pointer.slice(1).replaceAll("/", "."),
    headers: { ...headers, ...retries(status) },
  })
}

/** The codes that clients of this API look for. */
const codes: Readonly<Record<number, string>> = { 401: "invalid_api_key", 429: "rate_limit_exceeded" }

/** The official client repeats what was answered 409, and is told here that it would be in vain. */
const retries = (status: number): Readonly<Record<string, string>> =>
  status === 409 ? { "x-should-retry": "false" } : {}

export const notFound = (id: string): OpenAiError =>
  new OpenAiError({
    status: 404,
    code: "response_not_found",
    message: `Response with id '${id.slice(0, 100)}' not found.`,
    param: null,
  })

/** What a field asks for cannot be done here. */
export const unsupported = (param: string): OpenAiError =>
  new OpenAiError({
    status: 400,
    code: "unsupported_parameter",
    message: `Unsupported parameter: '${param}' has a value that this service cannot honour.`,
    param,
  })

/** A field as this API writes it: `input[0].content`. */
export const paramOf = (path: ReadonlyArray<PropertyKey>): string =>
  path.reduce<string>(
    (text, part) =>
      typeof part === "number" ? `${text}[${part}]` : text === "" ? String(part) : `${text}.${String(part)}`,
    "",
  )

/** What its schema refused first. `rename`: what the caller calls the fields of a value that was made from its own. */
export const fromParseError = (
  error: ParseResult.ParseError,
  rename: ReadonlyMap<PropertyKey, string> = new Map(),
): OpenAiError => {
  const issues = ParseResult.ArrayFormatter.formatErrorSync(error)
  // A union says of each of its members why it is not that one: the deepest is the one that was meant.
  const meant = issues.filter(({ path }) => !issues.some((other) => isInside(other.path, path)))
  // An item of another type differs in everything: its type alone is what it is refused for.
  const issue = meant.find(({ path }) => path.length > 1 && path.at(-1) === "type") ?? meant[0]
  if (issue === undefined) return invalid("invalid_value", "The request is not valid.", null)
  const [first = "", ...rest] = issue.path
  const param = issue.path.length === 0 ? null : paramOf([rename.get(first) ?? first, ...rest]).slice(0, 200)
  switch (issue._tag) {
    case "Unexpected":
      return invalid("unknown_parameter", `Unknown parameter: '${param}'.`, param)
    case "Missing":
      return invalid("missing_required_parameter", `Missing required parameter: '${param}'.`, param)
    default:
      return param !== null && issue.path.length > 1 && issue.path.at(-1) === "type"
        ? unsupported(param)
        : invalid(
            "invalid_value",
            `Invalid value${param === null ? "" : ` for '${param}'`}: ${issue.message.slice(0, 200)}`,
            param,
          )
  }
}

const isInside = (path: ReadonlyArray<PropertyKey>, outer: ReadonlyArray<PropertyKey>): boolean =>
  path.length > outer.length && outer.every((part, index) => path[index] === part)

const invalid = (code: string, message: string, param: string | null) =>
  new OpenAiError({ status: 400, code, message, param })
