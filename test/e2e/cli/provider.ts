/**
 * A provider of LLMs on loopback that does as a test says: what Codex needs of OpenAI's Responses API, which is one call
 * that answers with server-sent events.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { text } from "node:stream/consumers"
import type { Json } from "../Service.js"

export type Script =
  | {
      readonly does: "answer"
      readonly pieces: ReadonlyArray<string>
      readonly usage: { readonly input_tokens: number; readonly output_tokens: number; readonly total_tokens: number }
    }
  /** Streams the pieces, then nothing more, and leaves the connection open. */
  | { readonly does: "hang"; readonly pieces: ReadonlyArray<string> }
  | { readonly does: "refuse"; readonly status: number; readonly code: string; readonly message: string }

export interface Request {
  readonly path: string
  readonly authorization: string | undefined
  readonly body: Json
}

const send = (response: ServerResponse, type: string, fields: Record<string, unknown>): void => {
  response.write(`event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`)
}

const message = (pieces: ReadonlyArray<string>, status: string) => ({
  id: "msg_1",
  type: "message",
  role: "assistant",
  status,
  content: pieces.length === 0 ? [] : [{ type: "output_text", text: pieces.join(""), annotations: [] }],
})

const stream = (response: ServerResponse, pieces: ReadonlyArray<string>): void => {
  const place = { item_id: "msg_1", output_index: 0, content_index: 0 }
  response.writeHead(200, { "content-type": "text/event-stream" })
  send(response, "response.created", { response: { id: "resp_1" } })
  send(response, "response.output_item.added", { output_index: 0, item: message([], "in_progress") })
  for (const delta of pieces) send(response, "response.output_text.delta", { ...place, delta })
}

const follow = (script: Script, response: ServerResponse): void => {
  switch (script.does) {
    case "answer":
      stream(response, script.pieces)
      send(response, "response.output_item.done", { output_index: 0, item: message(script.pieces, "completed") })
      send(response, "response.completed", { response: { id: "resp_1", usage: script.usage } })
      response.end()
      return
    case "hang":
      stream(response, script.pieces)
      return
    case "refuse": {
      const { code, message, status } = script
      response.writeHead(status, { "content-type": "application/json" })
      response.end(JSON.stringify({ error: { message, type: "scripted", param: null, code } }))
    }
  }
}

export class Provider {
  readonly requests: Array<Request> = []
  readonly #server = createServer((request, response) => {
    this.#answer(request, response).catch(() => response.destroy())
  })
  #script: Script | undefined
  #open = 0

  /** What it does from now on; the requests until now are forgotten. */
  set script(script: Script) {
    this.#script = script
    this.requests.length = 0
  }

  /** The answers that somebody is still listening to. */
  get open(): number {
    return this.#open
  }

  /** Listens on a free port and answers the base URL of its API. */
  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve))
    const address = this.#server.address()
    if (address === null || typeof address === "string") throw new Error("it has no port")
    return `http://127.0.0.1:${address.port}/v1`
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.#server.closeAllConnections()
    await closed
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { headers, url: path = "" } = request
    this.#open++
    response.once("close", () => this.#open--)
    const body = await text(request)
    if (this.#script === undefined || request.method !== "POST" || path !== "/v1/responses") {
      response.writeHead(404).end()
      return
    }
    this.requests.push({ path, authorization: headers.authorization, body: JSON.parse(body) })
    follow(this.#script, response)
  }
}
