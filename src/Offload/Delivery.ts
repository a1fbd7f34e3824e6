/** The work of deliveries: a message of the job whose outcome it tells, posted once an attempt. */
import { Effect } from "effect"
import { dispositions, toFailure } from "../Job/JobError.js"
import { deliveries, type Job, type JobId, type Output } from "../Job.js"
import { hostOf, Webhook, type WebhookError } from "../Webhook.js"
import { CurrentAttempt, type Handled, type Handlers, settle } from "./Settle.js"

/** What is recorded as having run the attempts of a delivery. */
const adapter = "webhook"

const deliver: Effect.Effect<Output, WebhookError, CurrentAttempt | Webhook> = Effect.gen(function* () {
  const webhook = yield* Webhook
  const { input, job } = yield* CurrentAttempt
  if (job.deliveryOf === null) return yield* Effect.dieMessage(`'${job.id}' is no delivery.`)
  const { id, timeoutMillis } = job
  yield* webhook.post({ id, url: job.deliveryOf.url, body: input.prompt, timeoutMillis })
  return {}
})

const handle = (error: WebhookError): Handled => ({ level: dispositions[error._tag].level, failure: toFailure(error) })

const handlers: Handlers<WebhookError> = {
  WebhookRefused: handle,
  WebhookUnreachable: handle,
  WebhookStatus: handle,
  WebhookGone: handle,
}

/** The host, and the port, that a delivery goes to; `null` of a job that is none. */
export const hostOfDelivery = ({ deliveryOf }: Job): string | null =>
  deliveryOf === null ? null : hostOf(deliveryOf.url)

/** The work of a delivery, settled. */
export const settleDelivery = (id: JobId) => settle({ id, resource: deliveries, adapter }, deliver, handlers)
