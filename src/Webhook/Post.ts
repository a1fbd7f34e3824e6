/** `Webhook` as real requests. */
import type { ClientRequest, IncomingMessage } from "node:http"
import * as http from "node:http"
import { isIP, type Socket } from "node:net"
import * as tls from "node:tls"
import { Clock, Effect, Layer, Redacted, type Scope } from "effect"
import { Webhook as Signer } from "standardwebhooks"
import { WebhookGone, WebhookStatus, WebhookUnreachable } from "../Job/JobError.js"
import { OffloadConfig } from "../OffloadConfig.js"
import { type Message, Webhook } from "../Webhook.js"
import { allowed } from "./Address.js"
import { connectTo } from "./Connect.js"
import type { Address } from "./Names.js"
import * as Resolve from "./Resolve.js"
import { retryAfterMillis } from "./RetryAfter.js"
import { parse, resolve, type Target } from "./Target.js"

/** How much of an answer is read: a receiver's word counts, and not its page. */
const maxAnswerBytes = 4096

/** How long the rest of an answer may take once its status has come. */
const answerMillis = 1000

/** Sends, with the signatures and the rules of the settings. `lookup` is for tests. */
export const make = (given?: Resolve.Lookup): Layer.Layer<Webhook, never, OffloadConfig> =>
  Layer.effect(
    Webhook,
    Effect.map(OffloadConfig, ({ dnsServers, webhookAllow, webhookSecrets }) => {
      const rules = allowed(webhookAllow)
      const lookup = given ?? Resolve.make(dnsServers)
      const signers = webhookSecrets.map((secret) => new Signer(Redacted.value(secret)))

      const headers = ({ body, id }: Message, now: number) => ({
        "content-type": "application/json",
        "content-length": Buffer.byteLength(body),
        "user-agent": "offload",
        "webhook-id": id,
        "webhook-timestamp": String(Math.floor(now / 1000)),
        "webhook-signature": signers.map((signer) => signer.sign(id, new Date(now), body)).join(" "),
      })

      return {
        check: (url) => Effect.asVoid(parse(url, rules)),
        post: (message) =>
          Effect.gen(function* () {
            const target = yield* parse(message.url, rules)
            const { host } = target.url
            const answer = yield* resolve(target, rules, lookup, message.timeoutMillis).pipe(
              Effect.flatMap((addresses) =>
                Effect.flatMap(Clock.currentTimeMillis, (now) =>
                  send(target, addresses, message.body, headers(message, now)),
                ),
              ),
              Effect.timeoutFail({
                duration: message.timeoutMillis,
                onTimeout: () => new WebhookUnreachable({ host, code: "ETIMEDOUT" }),
              }),
            )
            yield* Effect.timeoutOption(readOut(answer), answerMillis)
            const status = answer.statusCode ?? 0
            if (status >= 200 && status < 300) return
            if (status === 410) return yield* new WebhookGone({ host, httpStatus: status })
            const wait = retryAfterMillis(status, answer.headers["retry-after"], yield* Clock.currentTimeMillis)
            return yield* new WebhookStatus({
              host,
              httpStatus: status,
              ...(wait === null ? {} : { retryAfterMillis: wait }),
            })
          }).pipe(Effect.scoped),
      }
    }),
  )

export const layer = make()

/** The head of the answer, from one of the checked addresses. The connection ends with the scope. */
const send = (
  target: Target,
  addresses: ReadonlyArray<Address>,
  body: string,
  headers: http.OutgoingHttpHeaders,
): Effect.Effect<IncomingMessage, WebhookUnreachable, Scope.Scope> =>
  Effect.gen(function* () {
    const { host, port, protocol } = target.url
    const isSecure = protocol === "https:"
    const socket = yield* Effect.mapError(
      connectTo(addresses, port === "" ? (isSecure ? 443 : 80) : Number(port)),
      ({ code }) => new WebhookUnreachable({ host, code }),
    )
    const request = yield* Effect.acquireRelease(
      Effect.sync(() => ask(target, isSecure ? secure(socket, target) : socket, headers)),
      (request) => Effect.sync(() => request.destroy()),
    )
    return yield* answered(request, body, host)
  })

/** TLS to the name of the URL: its certificate is checked against that, whatever address it was. */
const secure = (socket: Socket, { hostname }: Target): Socket =>
  tls.connect({
    socket,
    host: hostname,
    // An address is no name to ask a server for.
    ...(isIP(hostname) === 0 ? { servername: hostname.replace(/\.$/, "") } : {}),
    ALPNProtocols: ["http/1.1"],
  })

const ask = ({ url }: Target, socket: Socket, headers: http.OutgoingHttpHeaders): ClientRequest => {
  const request = http.request({
    method: "POST",
    host: url.host,
    setHost: false,
    path: `${url.pathname}${url.search}`,
    headers: { host: url.host, ...headers },
    // A connection of its own: one that is kept open could be older than the check of its address.
    createConnection: () => socket,
  })
  // What comes after the answer, or after the scope has ended, changes nothing; unheard it would end the process.
  request.on("error", () => {})
  return request
}

const answered = (request: ClientRequest, body: string, host: string) =>
  Effect.async<IncomingMessage, WebhookUnreachable>((resume) => {
    const fail = (code: string) => resume(Effect.fail(new WebhookUnreachable({ host, code })))
    request.on("response", (answer) => resume(Effect.succeed(answer)))
    request.on("error", (error) => fail("code" in error ? String(error.code) : error.name))
    request.on("close", () => fail("ECONNRESET"))
    request.end(body)
  })

/** Reads an answer to its end, its limit or its failure, whatever comes first: none of them changes its status. */
const readOut = (answer: IncomingMessage) =>
  Effect.async<void>((resume) => {
    let bytes = 0
    const done = () => resume(Effect.void)
    answer.on("data", (chunk: Buffer) => {
      bytes += chunk.byteLength
      if (bytes > maxAnswerBytes) done()
    })
    answer.on("error", done)
    answer.on("close", done)
    answer.on("end", done)
  })
