/**
 * Telling a receiver of a job's end: the contract. `Webhook/Post.ts` sends real requests.
 */
import { Context, type Effect, Layer } from "effect"
import { type WebhookError, WebhookRefused } from "./Job/JobError.js"

export { type WebhookError, WebhookRefused } from "./Job/JobError.js"

/** One attempt to deliver. */
export interface Message {
  /** The same in each attempt of a delivery, so that a receiver knows what it has got before. */
  readonly id: string
  readonly url: string
  /** JSON. It is signed as it is. */
  readonly body: string
  /** The longest that the receiver may take to answer, in milliseconds; its name's resolution is counted in. */
  readonly timeoutMillis: number
}

export class Webhook extends Context.Tag("effect-offload/Webhook")<
  Webhook,
  {
    /** Refuses a URL that no message would be sent to, as far as the URL itself tells: no name is resolved. */
    readonly check: (url: string) => Effect.Effect<void, WebhookRefused>

    /**
     * Signs a message and posts it, once: succeeds where the receiver answers 2xx. Follows no redirect. Connects to
     * an address that was checked, and to none where any address of the host is not allowed. Interruption ends the
     * connection. No error tells more of the URL than its host.
     */
    readonly post: (message: Message) => Effect.Effect<void, WebhookError>
  }
>() {
  /** For a program that sends nothing: every URL is refused. */
  static readonly layerNone: Layer.Layer<Webhook> = Layer.sync(Webhook, () => {
    const refuse = (url: string) => new WebhookRefused({ host: hostOf(url), reason: "this program sends no webhooks" })
    return { check: refuse, post: ({ url }) => refuse(url) }
  })
}

/** What may be told of a URL. */
export const hostOf = (url: string): string => (URL.canParse(url) ? new URL(url).host : "")
