/** The Node server under the service: its limits, its answer to what is not HTTP, and how it ends. */
import {
  createServer,
  type IncomingMessage,
  type Server as NodeServer,
  type RequestListener,
  STATUS_CODES,
} from "node:http"
import type { Socket } from "node:net"
import { HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Layer, type Scope } from "effect"
import { mediaType } from "../Api/Problem.js"
import { OffloadConfig, type Values } from "../OffloadConfig.js"
import { write } from "./Answer.js"
import * as Pipeline from "./Pipeline.js"
import { Problem, toAnswer, toDocument } from "./Problem.js"

/** Milliseconds. A header must come within the first, a whole request within the second. */
const headersTimeout = 10_000
const requestTimeout = 60_000
const keepAliveTimeout = 65_000

/** How long open connections may go on after the server stopped listening, in milliseconds. */
const closeGrace = 1000

/** Node's own server, for what `HttpServer` has no word for. */
export class Connections extends Context.Tag("effect-offload/Connections")<
  Connections,
  {
    /**
     * Hands each request to a listener, one at a time of a connection, for as long as the scope lasts. Before and after it
     * each is answered 503.
     */
    readonly serve: (listener: RequestListener) => Effect.Effect<void, never, Scope.Scope>
    /** Stops listening, gives open connections a moment to finish, and closes them: this takes no longer than that. */
    readonly close: Effect.Effect<void>
  }
>() {}

/**
 * Listens at `HOST` and `PORT`, and answers 503 until somebody serves. It fails where the port is taken, so that
 * whatever begins work is to be built on top of it.
 */
export const layer = Layer.unwrapEffect(
  Effect.map(OffloadConfig, ({ host, idle, port }) => {
    const server = createServer({ headersTimeout, requestTimeout, keepAliveTimeout, connectionsCheckingInterval: 5000 })
    // Also ends a connection whose reader takes nothing: what waits for it is bounded, and so is how long.
    server.timeout = idle
    let listener = notServing
    const pipeline = Pipeline.make((request, response) => listener(request, response))
    server.on("clientError", refuse(pipeline)).on("request", pipeline.listener)
    return Layer.merge(
      NodeHttpServer.layer(() => server, { host, port }),
      Layer.succeed(
        Connections,
        connections(server, (to) => {
          listener = to
        }),
      ),
    )
  }),
)

const connections = (server: NodeServer, serve: (listener: RequestListener) => void): Connections["Type"] => ({
  serve: (listener) =>
    Effect.asVoid(
      Effect.acquireRelease(
        Effect.sync(() => serve(listener)),
        () => Effect.sync(() => serve(notServing)),
      ),
    ),
  close: Effect.async((resume) => {
    server.close(() => resume(Effect.void))
    server.closeIdleConnections()
    setTimeout(() => server.closeAllConnections(), closeGrace).unref()
  }),
})

/** For a caller who comes before the service is ready, or when it is about to end. */
const notServing: RequestListener = (_request, response) => {
  const problem = new Problem({
    slug: "starting",
    detail: "The service does not serve yet. Nothing was done.",
    headers: { "retry-after": "1", connection: "close" },
  })
  write(toAnswer(problem), response)
}

/** The names under which a service on loopback is reached. Any other comes from a web page of somebody else. */
const loopbackNames: ReadonlyArray<string> = ["localhost", "127.0.0.1", "[::1]"]

/**
 * Every field of a request with this name, which is in small letters. Of `Host` and `Authorization` Node hands on the
 * first alone, and a proxy before it may read another.
 */
const fieldsOf = ({ rawHeaders }: IncomingMessage, name: string): ReadonlyArray<string> => {
  const values: Array<string> = []
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const [field, value] = [rawHeaders[at], rawHeaders[at + 1]]
    if (field?.length === name.length && field.toLowerCase() === name && value !== undefined) values.push(value)
  }
  return values
}

export const hostsOf = (request: IncomingMessage): ReadonlyArray<string> => fieldsOf(request, "host")

/** Whether a request says twice who sends it, which RFC 9110 does not allow: one of the two would be ignored. */
export const hasTwoKeys = (request: IncomingMessage): boolean => fieldsOf(request, "authorization").length > 1

/** Whether there is one Host field, and it is one of the service's own names (protection against DNS rebinding). */
export const isOwnHost = (
  [host, ...others]: ReadonlyArray<string>,
  { callers, hosts }: Pick<Values, "callers" | "hosts">,
): boolean => {
  if (host === undefined || others.length > 0) return false
  // A web page has no key: where one is needed, a foreign name opens nothing.
  if (callers.length > 0 && hosts.length === 0) return true
  const name = host.replace(/:\d+$/, "").toLowerCase()
  return loopbackNames.includes(name) || hosts.some((own) => own.toLowerCase() === name)
}

const refuse = (pipeline: Pipeline.Pipeline) => (error: Error & { readonly code?: string }, socket: Socket) => {
  const middle = pipeline.middleOf(socket)
  // What waits in the socket is late because nobody reads it.
  if (middle === "held" && error.code === "ERR_HTTP_REQUEST_TIMEOUT") return
  if (middle !== null || error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy()
    return
  }
  const status = error.code === "HPE_HEADER_OVERFLOW" ? 431 : error.code === "ERR_HTTP_REQUEST_TIMEOUT" ? 408 : 400
  const document = { ...toDocument({ slug: "malformed-http", detail: "The request could not be read." }), status }
  const body = JSON.stringify(document)
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\ncontent-type: ${mediaType}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  )
}

/** Where the server listens, as a URL. */
export const url = Effect.map(HttpServer.HttpServer, ({ address }) =>
  address._tag === "TcpAddress"
    ? `http://${address.hostname.includes(":") ? `[${address.hostname}]` : address.hostname}:${address.port}`
    : address.path,
)
