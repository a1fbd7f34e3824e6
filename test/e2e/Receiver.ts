/** A receiver of webhooks on loopback, which does what it is told and keeps what it got. */
import { readFileSync } from "node:fs"
import {
  createServer,
  type IncomingHttpHeaders,
  type RequestListener,
  type Server,
  type ServerResponse,
} from "node:http"
import { createServer as createTlsServer } from "node:https"
import type { AddressInfo } from "node:net"
import { fileURLToPath } from "node:url"
import { Webhook } from "standardwebhooks"
import type { Json } from "./Service.js"

/** A file of `fixtures`: `localhost.pem` is a certificate signed by itself, valid until 2120, for tests alone. */
export const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url))

export const makeSecret = (letter: string) => `whsec_${Buffer.from(letter.repeat(32)).toString("base64")}`

export interface Received {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly text: string
  readonly body: Json
}

type Answer = (response: ServerResponse, received: Received) => void

export const status =
  (code: number, headers: Record<string, string> = {}): Answer =>
  (response) =>
    response.writeHead(code, headers).end("thanks")

/** Takes the request and never answers. */
export const silence: Answer = () => {}

export class Receiver {
  readonly received: Array<Received> = []
  readonly #server: Server
  #port = 0

  /** It answers 204, unless `answer` says otherwise; with `tls` it is the one that `localhost.pem` is for. */
  constructor(
    public answer: Answer = status(204),
    readonly tls = false,
  ) {
    const listener: RequestListener = (request, response) => {
      let text = ""
      request.on("data", (chunk) => {
        text += chunk
      })
      request.on("end", () => {
        const { headers, url: path = "" } = request
        const received = { path, headers, text, body: JSON.parse(text) }
        this.received.push(received)
        this.answer(response, received)
      })
    }
    this.#server = tls
      ? createTlsServer(
          { key: readFileSync(fixture("localhost.key")), cert: readFileSync(fixture("localhost.pem")) },
          listener,
        )
      : createServer(listener)
  }

  /** Listens: on a free port the first time, and on the same one from then on. */
  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(this.#port, "127.0.0.1", resolve))
    this.#port = (this.#server.address() as AddressInfo).port
    return this
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  url(path = "/hook"): string {
    return `${this.tls ? "https" : "http"}://localhost:${this.#port}${path}`
  }

  get ids(): ReadonlyArray<unknown> {
    return this.received.map(({ headers }) => headers["webhook-id"])
  }
}

/** What a receiver of the library makes of it: the payload, or an exception. */
export const verify = (secret: string, { headers, text }: Received): Json =>
  new Webhook(secret).verify(text, headers as Record<string, string>)
