/** An answer whose body is a text that is there: as a response of the platform, or written to Node's own at once. */
import type { ServerResponse } from "node:http"
import { HttpServerResponse } from "@effect/platform"

export interface Answer {
  readonly status: number
  readonly contentType: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export const jsonAnswer = (body: unknown, status = 200, headers: Readonly<Record<string, string>> = {}): Answer => ({
  status,
  contentType: "application/json",
  headers: { "cache-control": "no-store", ...headers },
  body: JSON.stringify(body),
})

export const respond = ({ body, ...options }: Answer): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(body, options)

/** Writes it, unless the client has gone away. */
export const write = ({ body, contentType, headers, status }: Answer, response: ServerResponse): void => {
  if (response.destroyed) return
  const fields = { "content-type": contentType, "content-length": Buffer.byteLength(body), ...headers }
  response.writeHead(status, fields).end(body)
}
