/** What `POST /v1/responses` takes, and the job that it asks for. Pure. */
import { Either, ParseResult, Predicate, Schema } from "effect"
import { SubmitJob } from "../../Api.js"
import type { Resource } from "../../OffloadConfig.js"
import { fromParseError, OpenAiError, paramOf, unsupported } from "./Error.js"

const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optional(Schema.NullOr(schema))

/** Text that came in, or that an earlier response put out and that is given back as part of a conversation. */
const Part = Schema.Struct({
  type: Schema.Literal("input_text", "output_text"),
  text: Schema.String,
  annotations: Schema.optional(Schema.Unknown),
  logprobs: Schema.optional(Schema.Unknown),
})

const TextOrList = Schema.Union(Schema.String, Schema.Array(Schema.Unknown))

/** A message; its parts, which may be many, are looked at one by one. */
const Item = Schema.Struct({
  type: Schema.optional(Schema.Literal("message")),
  role: Schema.Literal("user", "assistant", "system", "developer"),
  content: TextOrList,
  // What a message of an earlier response has beside its text.
  id: Schema.optional(Schema.String),
  status: Schema.optional(Schema.String),
  phase: Schema.optional(Schema.Unknown),
})
interface Item {
  readonly role: (typeof Item.Type)["role"]
  readonly content: string | ReadonlyArray<typeof Part.Type>
}

/** The fields that mean something here. Unknown ones are refused. */
const Fields = Schema.Struct({
  input: TextOrList,
  instructions: optional(Schema.String),
  model: optional(Schema.String),
  metadata: optional(Schema.Record({ key: Schema.String, value: Schema.String })),
  background: optional(Schema.Boolean),
  stream: optional(Schema.Boolean),
  // These change nothing: there are no tools, and who the end user is means nothing to a command line.
  parallel_tool_calls: optional(Schema.Boolean),
  user: optional(Schema.String),
})
export interface Request extends Omit<typeof Fields.Type, "input"> {
  readonly input: string | ReadonlyArray<Item>
}

const Nothing = Schema.optional(Schema.Null)
const NoneOf = Schema.Tuple()

/** The fields of the API that a command line cannot honour, each with the values that ask for nothing. */
const Idle = Schema.Struct({
  context_management: Nothing,
  conversation: Nothing,
  include: optional(NoneOf),
  max_output_tokens: Nothing,
  max_tool_calls: Nothing,
  moderation: Nothing,
  previous_response_id: Nothing,
  prompt: Nothing,
  prompt_cache_key: Nothing,
  prompt_cache_options: Nothing,
  prompt_cache_retention: Nothing,
  reasoning: optional(Schema.Record({ key: Schema.String, value: Schema.Null })),
  safety_identifier: Nothing,
  service_tier: optional(Schema.Literal("auto", "default")),
  store: optional(Schema.Literal(true)),
  stream_options: optional(Schema.Struct({ include_obfuscation: Schema.optional(Schema.Literal(false)) })),
  temperature: Nothing,
  text: optional(
    Schema.Struct({ format: optional(Schema.Struct({ type: Schema.Literal("text") })), verbosity: Nothing }),
  ),
  tool_choice: optional(Schema.Literal("auto", "none")),
  tools: optional(NoneOf),
  top_logprobs: optional(Schema.Literal(0)),
  top_p: Nothing,
  truncation: optional(Schema.Literal("disabled")),
})

const strict = { errors: "all", onExcessProperty: "error" } as const
const decodeIdle = Schema.decodeUnknownEither(Idle, { ...strict, errors: "first" })
const decodeFields = Schema.decodeUnknownEither(Fields, strict)
const decodeItem = Schema.decodeUnknownEither(Item, strict)
const decodePart = Schema.decodeUnknownEither(Part, strict)
const decodeSubmission = Schema.decodeUnknownEither(SubmitJob, strict)

/** The body of a request, or the first field that is at fault. */
export const decode = (body: unknown): Either.Either<Request, OpenAiError> => {
  if (!Predicate.isRecord(body)) return Either.mapLeft(decodeMeant(body), (error) => fromParseError(error))
  const isIdle = (name: string) => Object.hasOwn(Idle.fields, name)
  const pick = (wanted: boolean) => Object.fromEntries(Object.entries(body).filter(([name]) => isIdle(name) === wanted))
  for (const [name, value] of Object.entries(pick(true))) {
    // One by one, so that the field is named, and no deeper than a reader of the API's reference would look for it.
    if (Either.isLeft(decodeIdle({ [name]: value }))) return Either.left(unsupported(fieldOf(name, value)))
  }
  return Either.mapLeft(decodeMeant(pick(false)), (error) => fromParseError(error))
}

/** Stops at the first of many messages or parts that is at fault: to say it of each of them would take long. */
const decodeMeant = (body: unknown): Either.Either<Request, ParseResult.ParseError> =>
  Either.flatMap(decodeFields(body), ({ input, ...fields }) =>
    Either.map(textOr(["input"], input, message), (input) => ({ ...fields, input })),
  )

const message = (value: unknown, path: Path): Either.Either<Item, ParseResult.ParseError> =>
  Either.flatMap(at(path, value, decodeItem(value)), ({ content, role }) =>
    Either.map(textOr([...path, "content"], content, part), (content) => ({ role, content })),
  )

const part = (value: unknown, path: Path) => at(path, value, decodePart(value))

type Path = readonly [PropertyKey, ...ReadonlyArray<PropertyKey>]

const textOr = <A>(
  path: Path,
  values: string | ReadonlyArray<unknown>,
  decode: (value: unknown, path: Path) => Either.Either<A, ParseResult.ParseError>,
): Either.Either<string | ReadonlyArray<A>, ParseResult.ParseError> => {
  if (typeof values === "string") return Either.right(values)
  const found: Array<A> = []
  for (const [index, value] of values.entries()) {
    const decoded = decode(value, [...path, index])
    if (Either.isLeft(decoded)) return Either.left(decoded.left)
    found.push(decoded.right)
  }
  return Either.right(found)
}

const at = <A>(
  path: Path,
  value: unknown,
  decoded: Either.Either<A, ParseResult.ParseError>,
): Either.Either<A, ParseResult.ParseError> =>
  Either.mapLeft(
    decoded,
    ({ issue }) => new ParseResult.ParseError({ issue: new ParseResult.Pointer(path, value, issue) }),
  )

const fieldOf = (name: string, value: unknown): string => {
  const inner = name === "text" && Predicate.isRecord(value) ? Object.entries(value) : []
  const [field] = inner.find(([key, asked]) => Either.isLeft(decodeIdle({ text: { [key]: asked } }))) ?? []
  return paramOf(field === undefined ? [name] : [name, field])
}

/** What a caller calls the members of the job that its request became. */
const names = new Map([
  ["prompt", "input"],
  ["system", "instructions"],
])

/** What is asked of a resource to choose it. */
type Target = Pick<Resource, "name" | "model" | "models">

/** The job that a request asks for, with the same limits as that of `POST /jobs`. */
export const toSubmission = (
  { input, instructions, metadata, model }: Request,
  resources: ReadonlyArray<Target>,
): Either.Either<SubmitJob, OpenAiError> =>
  Either.flatMap(model == null ? Either.right({}) : choose(model, resources), (chosen) => {
    const items: ReadonlyArray<Item> = typeof input === "string" ? [{ role: "user", content: input }] : input
    const system = [...(instructions == null ? [] : [instructions]), ...items.filter(isSystem).map(textOf)].join("\n\n")
    return Either.mapLeft(
      decodeSubmission({
        ...chosen,
        prompt: promptOf(items.filter((item) => !isSystem(item))),
        ...(system === "" ? {} : { system }),
        metadata: metadata ?? {},
      }),
      (error) => fromParseError(error, names),
    )
  })

const isSystem = ({ role }: Item): boolean => role === "system" || role === "developer"

const textOf = ({ content }: Item): string =>
  typeof content === "string" ? content : content.map(({ text }) => text).join("\n")

/** One message of the user is the prompt as it is; a conversation is told message by message, each under its role. */
const promptOf = (items: ReadonlyArray<Item>): string => {
  const [first, ...others] = items
  if (first?.role === "user" && others.length === 0) return textOf(first)
  return items.map((item) => `${item.role === "user" ? "User" : "Assistant"}:\n${textOf(item)}`).join("\n\n")
}

/**
 * The resource and the model that a name means: a resource; `resource/model`, that model of it; else the first resource
 * that has this model, or allows it.
 */
const choose = (
  name: string,
  resources: ReadonlyArray<Target>,
): Either.Either<{ readonly resource: string; readonly model?: string }, OpenAiError> => {
  if (resources.some((resource) => resource.name === name)) return Either.right({ resource: name })
  const slash = name.indexOf("/")
  const before = resources.find((resource) => resource.name === name.slice(0, Math.max(slash, 0)))
  if (before !== undefined) {
    const model = name.slice(slash + 1)
    return before.models?.includes(model) === false
      ? notFound(name, `Name one of ${before.models.map((each) => `${before.name}/${each}`).join(", ")}.`)
      : Either.right({ resource: before.name, model })
  }
  const owner =
    resources.find(({ model }) => model === name) ?? resources.find(({ models }) => models?.includes(name) === true)
  if (owner !== undefined) return Either.right({ resource: owner.name, model: name })
  const known = resources.map((resource) => resource.name).join(", ")
  return notFound(name, `Name a resource (${known}), or 'resource/model'.`)
}

const notFound = (name: string, remedy: string) =>
  Either.left(
    new OpenAiError({
      status: 400,
      code: "model_not_found",
      message: `The requested model '${name.slice(0, 100)}' does not exist. ${remedy}`,
      param: "model",
    }),
  )
