/**
 * The contract as an OpenAPI 3.1 document. `OpenApi.fromApi` makes most of it; what it has no word for is added here:
 * response headers, the optional key, and the media type of problems.
 */
import { OpenApi } from "@effect/platform"
import { Api, isOpen } from "../Api.js"
import { mediaType, type ProblemSlug, problems } from "./Problem.js"

/** A JSON object. */
export interface JsonObject {
  readonly [member: string]: unknown
}

/** The document of `GET /openapi.json`. Made anew by each call, and always the same. */
export const openApiDocument = (): JsonObject => {
  const { components, info, openapi, paths, tags } = OpenApi.fromApi(Api)
  const written = mapValues(paths, (item, path) =>
    mapValues(item, (operation, method) => toOperation(method, path, operation)),
  )
  const requests = referencesIn(
    Object.values(written)
      .flatMap(Object.values)
      .map(({ requestBody }) => requestBody),
  )
  const { [decodeError]: _, Issue: __, PropertyKey: ___, ...schemas } = components.schemas
  return {
    openapi,
    info,
    servers: [{ url: "/", description: "The service itself" }],
    security: [{}, { bearer: [] }],
    tags,
    paths: tidy(written, false),
    components: {
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer", description: "A key of `OFFLOAD_API_KEYS`, where there are keys" },
      },
      // A request is refused for a member that is not known; an answer may have more of them in later versions.
      schemas: mapValues(schemas, (schema, name) => tidy(schema, requests.has(reference(name)))),
    },
  }
}

/** The platform's own answer to a bad request: this service answers problems instead. */
const decodeError = "HttpApiDecodeError"

const toOperation = (
  method: string,
  path: string,
  { operationId, parameters, responses, security: _, ...rest }: Operation,
) => ({
  ...rest,
  operationId: operationId.split(".").at(-1),
  ...(isOpen(path) ? { security: [] } : {}),
  parameters: parameters.map((parameter) => ({ ...parameter, name: spelling[parameter.name] ?? parameter.name })),
  responses: Object.fromEntries(
    Object.entries(responses).flatMap(([status, response]): ReadonlyArray<[string, JsonObject]> => {
      if (Number(status) < 400) return [[status, toSuccess(`${method} ${path} ${status}`, response)]]
      const slugs = slugsIn(response).filter((slug) => !(isOpen(path) && ofCallers.includes(slug)))
      return slugs.length === 0 ? [] : [[status, toProblem(slugs)]]
    }),
  ),
})

/** Problems of callers alone: an open call asks for no key, and its answers are the same for everybody. */
const ofCallers: ReadonlyArray<ProblemSlug> = ["unauthorized", "too-many-unread"]

type Operation = NonNullable<OpenApi.OpenAPISpecPathItem[OpenApi.OpenAPISpecMethodName]>

/** Headers as their specifications write them; the contract has them in the small letters that servers see. */
const spelling: Readonly<Record<string, string>> = {
  "idempotency-key": "Idempotency-Key",
  prefer: "Prefer",
  "last-event-id": "Last-Event-ID",
}

const header = (type: "string" | "integer", description: string) => ({ description, schema: { type } })

const retryAfter = { "Retry-After": header("integer", "Seconds until it is worth asking again") }
const preferenceApplied = { "Preference-Applied": header("string", "The wait that was granted, such as `wait=30`") }

/** Where a limit is set. */
const rateLimit = {
  RateLimit: header("string", "How much of the limit is left, and when it is whole again"),
  "RateLimit-Policy": header("string", "The limit, and the seconds that it holds for"),
}

/** What answers carry beside their bodies. */
const successHeaders: Readonly<Record<string, JsonObject>> = {
  "post /jobs 202": {
    Location: header("string", "The path of the job"),
    ...retryAfter,
    ...preferenceApplied,
    ...rateLimit,
  },
  "post /jobs 200": { ...preferenceApplied, ...rateLimit },
  "get /jobs/{id} 200": { ...retryAfter, ...preferenceApplied },
  "post /jobs/{id}/cancel 202": retryAfter,
}

/** A stream is a text; what stands in its `data` is told by the schemas of its events. */
const eventStream = {
  "text/event-stream": {
    schema: {
      type: "string",
      contentMediaType: "text/event-stream",
      contentSchema: { anyOf: ["StatusEvent", "OutputEvent", "DoneEvent"].map((name) => ({ $ref: reference(name) })) },
    },
  },
}

const toSuccess = (key: string, { content, description }: OpenApi.OpenApiSpecResponse): JsonObject => ({
  description: Object.hasOwn(descriptions, key) ? descriptions[key] : description,
  ...(Object.hasOwn(successHeaders, key) ? { headers: successHeaders[key] } : {}),
  ...(content === undefined ? {} : { content: "text/event-stream" in content ? eventStream : content }),
})

/** What a status means, where the schema of its body does not say. */
const descriptions: Readonly<Record<string, string>> = {
  "post /jobs 200": "The job, which has ended within the wait",
  "post /jobs 202": "Saved durably; it will end",
  "get /jobs/{id} 200": "The job",
  "delete /jobs/{id} 204": "Removed",
  "post /jobs/{id}/cancel 200": "The job, which has ended",
  "post /jobs/{id}/cancel 202": "The job, whose processes are being ended",
  "get /jobs/{id}/events 204": "The reader has had everything: it need not come again",
}

const toProblem = (slugs: ReadonlyArray<ProblemSlug>): JsonObject => {
  const status = Math.max(...slugs.map((slug) => problems[slug].status))
  const schemas = slugs.map((slug) => ({ $ref: reference(`Problem.${slug}`) }))
  return {
    description: slugs.map((slug) => `${problems[slug].title}.`).join(" "),
    ...(status === 401 ? { headers: { "WWW-Authenticate": header("string", "`Bearer` (RFC 6750)") } } : {}),
    ...(status === 503 ? { headers: retryAfter } : {}),
    ...(status === 429 ? { headers: { ...retryAfter, ...rateLimit } } : {}),
    content: { [mediaType]: { schema: schemas.length === 1 ? schemas[0] : { anyOf: schemas } } },
  }
}

function reference(name: string): string {
  return `#/components/schemas/${name}`
}

const isSlug = (name: string): name is ProblemSlug => Object.hasOwn(problems, name)

/** The problems that a response can be. */
const slugsIn = (response: OpenApi.OpenApiSpecResponse): ReadonlyArray<ProblemSlug> =>
  [...referencesIn(response)].map((ref) => ref.slice(reference("Problem.").length)).filter(isSlug)

/** Every `$ref` in a value. */
const referencesIn = (value: unknown): ReadonlySet<string> => {
  if (typeof value !== "object" || value === null) return new Set()
  return new Set(
    Object.entries(value).flatMap(([name, member]) =>
      name === "$ref" && typeof member === "string" ? [member] : [...referencesIn(member)],
    ),
  )
}

/** Without the titles that schemas are given by their checks, such as `maxLength(255)`. */
const tidy = (value: unknown, isRequest: boolean): unknown => {
  if (Array.isArray(value)) return value.map((item) => tidy(item, isRequest))
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, member]) => !(name === "title" && typeof member === "string"))
      .filter(([name, member]) => isRequest || !(name === "additionalProperties" && member === false))
      .map(([name, member]) => [name, tidy(member, isRequest)]),
  )
}

const mapValues = <A, B>(record: Readonly<Record<string, A>>, f: (value: A, name: string) => B): Record<string, B> =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, f(value, name)]))
