/** Reading a JSON body: bounded, strict, and refused before anything is done with it. */
import { HttpServerRequest } from "@effect/platform"
import { NodeHttpServerRequest } from "@effect/platform-node"
import { Effect, Schema } from "effect"
import { OffloadConfig } from "../OffloadConfig.js"
import { fromParseError, Problem } from "./Problem.js"

/**
 * The body of the current request, decoded. Refuses a content type that is not JSON (415), a body over
 * `OFFLOAD_MAX_BODY_BYTES` (413), bytes that are not JSON (400), and a value that the schema does not take, unknown
 * members included (422).
 */
export const jsonBody = <A, I>(schema: Schema.Schema<A, I>) => {
  const decode = Schema.decodeUnknown(schema, { errors: "all", onExcessProperty: "error" })
  return Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const { maxBodyBytes } = yield* OffloadConfig
    if (!isJson(request.headers["content-type"])) {
      return yield* new Problem({
        slug: "unsupported-media-type",
        detail: `The Content-Type is ${request.headers["content-type"] === undefined ? "missing" : "not JSON"}; send application/json.`,
      })
    }
    const bytes = yield* readBytes(request, maxBodyBytes)
    if (isTooDeep(bytes)) {
      return yield* new Problem({ slug: "invalid-json", detail: `The body is nested more than ${maxDepth} deep.` })
    }
    const value = yield* Effect.try({
      try: (): unknown => JSON.parse(utf8.decode(bytes)),
      catch: () => new Problem({ slug: "invalid-json", detail: "The body is not well-formed JSON in UTF-8." }),
    })
    return yield* Effect.mapError(decode(value), (error) => fromParseError("invalid-request", error))
  })
}

const utf8 = new TextDecoder("utf-8", { fatal: true })

const isJson = (contentType: string | undefined): boolean =>
  contentType !== undefined && /^application\/(json|[a-z0-9.+-]+\+json)\s*(;|$)/i.test(contentType.trim())

/** How deep arrays and objects may be nested: far more than any call needs. */
const maxDepth = 64

/** Told before it is parsed: what is nested deeply costs far more than its length says. */
export const isTooDeep = (json: Uint8Array): boolean => {
  let depth = 0
  let inString = false
  for (let at = 0; at < json.length; at++) {
    const byte = json[at]
    if (inString) {
      if (byte === 0x5c) at++
      else if (byte === 0x22) inString = false
    } else if (byte === 0x22) inString = true
    else if (byte === 0x5b || byte === 0x7b) {
      if (++depth > maxDepth) return true
    } else if (byte === 0x5d || byte === 0x7d) depth--
  }
  return false
}

const readBytes = (request: HttpServerRequest.HttpServerRequest, limit: number): Effect.Effect<Uint8Array, Problem> =>
  Effect.async((resume) => {
    const incoming = NodeHttpServerRequest.toIncomingMessage(request)
    const chunks: Array<Uint8Array> = []
    let size = 0
    const stop = () => {
      incoming.off("data", onData)
      incoming.off("end", onEnd)
      incoming.off("error", onError)
    }
    const refuse = (problem: Problem) => {
      stop()
      // What is still on its way is read and thrown away, or the answer would be lost in a reset connection.
      incoming.on("error", () => {})
      incoming.resume()
      resume(Effect.fail(problem))
    }
    const onData = (chunk: Uint8Array) => {
      size += chunk.byteLength
      if (size > limit) refuse(tooLarge(limit))
      else chunks.push(chunk)
    }
    const onEnd = () => {
      stop()
      resume(Effect.succeed(Buffer.concat(chunks)))
    }
    const onError = () => refuse(new Problem({ slug: "invalid-json", detail: "The body ended early." }))
    if (Number(request.headers["content-length"] ?? 0) > limit) return refuse(tooLarge(limit))
    incoming.on("data", onData)
    incoming.on("end", onEnd)
    incoming.on("error", onError)
    return Effect.sync(stop)
  })

const tooLarge = (limit: number) =>
  new Problem({
    slug: "body-too-large",
    detail: `The body is larger than ${limit} bytes.`,
    extensions: { limitBytes: limit },
    headers: { connection: "close" },
  })
