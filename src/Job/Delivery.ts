/**
 * The delivery that a job's end gives rise to. A store saves it in the very write that ends the job, so that nothing
 * can come between an outcome and its delivery.
 *
 * The body is made then and kept as the delivery's input: every attempt sends the same bytes, and a delivery does not
 * need its job any more, which may be removed while the receiver is away.
 */
import { deliveries, type Failure, type Input, isTerminal, type Job } from "../Job.js"
import { toIso } from "./Plausible.js"
import { create } from "./Transition.js"

/** A delivery that is about to be saved. */
export interface Delivery {
  readonly job: Job
  readonly input: Input
}

/** What the move from `before` to `after` has to tell; `null`: it ends no job, or one without a webhook. */
export const arising = (before: Job | null, after: Job, nextSequence: () => number, now: number): Delivery | null => {
  const { webhook } = after
  if (webhook === null || before === null || isTerminal(before.status) || !isTerminal(after.status)) return null
  const input = { prompt: JSON.stringify(payload(after)) }
  const job = create(
    {
      id: webhook.delivery,
      resource: deliveries,
      // Callers take turns here too: a slow receiver of one of them leaves room for those of others.
      caller: after.caller,
      input,
      metadata: {},
      maxAttempts: webhook.maxAttempts,
      timeoutMillis: webhook.timeoutMillis,
      maxCostUsd: null,
      deadlineMillis: null,
      webhook: null,
      idempotency: null,
    },
    nextSequence(),
    now,
  )
  return { job: { ...job, deliveryOf: { id: after.id, url: webhook.url } }, input }
}

/**
 * What a receiver is told. Neither the prompt nor the output: whoever gets hold of the URL or of the receiver's log
 * would have them; a receiver that may read them fetches the job by its id.
 */
const payload = (job: Job) => ({
  type: `job.${job.status}`,
  timestamp: timeOrNull(job.finishedAt),
  data: {
    id: job.id,
    resource: job.resource,
    status: job.status,
    attempt: job.attempt,
    maxAttempts: job.maxAttempts,
    createdAt: timeOrNull(job.createdAt),
    startedAt: timeOrNull(job.startedAt),
    finishedAt: timeOrNull(job.finishedAt),
    metadata: job.metadata,
    error: job.error === null ? null : briefly(job.error),
    usage: job.usage,
    truncated: job.truncated,
  },
})

/** Without what the command wrote, where prompts and answers may be repeated. */
const briefly = ({ cause: _cause, stderr: _stderr, ...failure }: Failure) => failure

const timeOrNull = (millis: number | null): string | null => (millis === null ? null : toIso(millis))
