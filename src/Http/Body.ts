/** Reading a JSON body: bounded, strict, and refused before anything is done with it. */
import type { IncomingMessage } from "node:http"
import { HttpServerRequest } from "@effect/platform"
import { NodeHttpServerRequest } from "@effect/platform-node"
import { Effect, Either, Schema } from "effect"
import { OffloadConfig } from "../OffloadConfig.js"
import { excessOf, sizeOf } from "./Bounds.js"
import { fromParseError, Problem, tooMany } from "./Problem.js"

/**
 * A body of JSON, decoded; a problem where it is none (400), or where the schema does not take it (422). What is larger
 * than any call needs is refused before it is decoded: see `Bounds.ts`.
 */
export const decoder = <A, I>(schema: Schema.Schema<A, I>): ((bytes: Uint8Array) => Either.Either<A, Problem>) => {
  const decode = Schema.decodeUnknownEither(schema, { errors: "all", onExcessProperty: "error" })
  return (bytes) => {
    const refused = sizeOf(bytes)
    if (refused !== null) return Either.left(new Problem(refused))
    let value: unknown
    try {
      value = JSON.parse(utf8.decode(bytes))
    } catch {
      return Either.left(new Problem({ slug: "invalid-json", detail: "The body is not well-formed JSON in UTF-8." }))
    }
    const excess = excessOf(value)
    if (excess !== null) return Either.left(tooMany("invalid-request", excess))
    return Either.mapLeft(decode(value), (error) => fromParseError("invalid-request", error))
  }
}

/**
 * The body of the current request, decoded. Refuses a content type that is not JSON (415), a body over
 * `OFFLOAD_MAX_BODY_BYTES` (413), bytes that are not JSON (400), and a value that the schema does not take, unknown
 * members included (422).
 */
export const jsonBody = <A, I>(schema: Schema.Schema<A, I>) => {
  const decode = decoder(schema)
  return Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const { maxBodyBytes } = yield* OffloadConfig
    if (!isJson(request.headers["content-type"])) {
      return yield* new Problem({
        slug: "unsupported-media-type",
        detail: `The Content-Type is ${request.headers["content-type"] === undefined ? "missing" : "not JSON"}; send application/json.`,
      })
    }
    const incoming = NodeHttpServerRequest.toIncomingMessage(request)
    const bytes = yield* Effect.async<Uint8Array, Problem>((resume) =>
      Effect.sync(collect(incoming, maxBodyBytes, resume)),
    )
    return yield* decode(bytes)
  })
}

const utf8 = new TextDecoder("utf-8", { fatal: true })

/** Whether a Content-Type says that a body is JSON. */
export const isJson = (contentType: string | undefined): boolean =>
  contentType !== undefined && /^application\/(json|[a-z0-9.+-]+\+json)\s*(;|$)/i.test(contentType.trim())

/** Reads a body of at most `limit` bytes, and calls back once. The returned function gives it up. */
export const collect = (
  incoming: IncomingMessage,
  limit: number,
  done: (body: Either.Either<Uint8Array, Problem>) => void,
): (() => void) => {
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
    done(Either.left(problem))
  }
  const onData = (chunk: Uint8Array) => {
    size += chunk.byteLength
    if (size > limit) refuse(tooLarge(limit))
    else chunks.push(chunk)
  }
  const onEnd = () => {
    stop()
    done(Either.right(Buffer.concat(chunks)))
  }
  const onError = () => refuse(new Problem({ slug: "invalid-json", detail: "The body ended early." }))
  if (Number(incoming.headers["content-length"] ?? 0) > limit) refuse(tooLarge(limit))
  else {
    incoming.on("data", onData)
    incoming.on("end", onEnd)
    incoming.on("error", onError)
  }
  return stop
}

const tooLarge = (limit: number) =>
  new Problem({
    slug: "body-too-large",
    detail: `The body is larger than ${limit} bytes.`,
    extensions: { limitBytes: limit },
    headers: { connection: "close" },
  })
