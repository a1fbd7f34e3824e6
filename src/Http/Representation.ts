/** How jobs and resources are written as JSON: times as RFC 3339, durations in seconds. */
import type { Job, JobSummary, Resource, Webhook } from "../Api.js"
import { toIso as time } from "../Job/Plausible.js"
import { isTerminal, type Job as StoredJob, type Webhook as StoredWebhook } from "../Job.js"
import type { ResourceState, Snapshot } from "../Offload.js"

export const jobSummary = (job: StoredJob): typeof JobSummary.Encoded => ({
  id: job.id,
  resource: job.resource,
  status: job.status,
  attempt: job.attempt,
  maxAttempts: job.maxAttempts,
  timeoutSeconds: job.timeoutMillis / 1000,
  maxCostUsd: job.maxCostUsd,
  createdAt: time(job.createdAt),
  startedAt: timeOrNull(job.startedAt),
  finishedAt: timeOrNull(job.finishedAt),
  cancelRequestedAt: timeOrNull(job.cancelRequestedAt),
  retryAt: timeOrNull(job.retryAt),
  deadlineAt: timeOrNull(job.deadlineAt),
  metadata: job.metadata,
  error: job.error,
})

// One literal: a spread of so many members would take four times as long as the rest.
export const job = ({ delivery, input, job, output, queue }: Snapshot): typeof Job.Encoded => {
  const written = {
    id: job.id,
    resource: job.resource,
    status: job.status,
    attempt: job.attempt,
    maxAttempts: job.maxAttempts,
    timeoutSeconds: job.timeoutMillis / 1000,
    maxCostUsd: job.maxCostUsd,
    createdAt: time(job.createdAt),
    startedAt: timeOrNull(job.startedAt),
    finishedAt: timeOrNull(job.finishedAt),
    cancelRequestedAt: timeOrNull(job.cancelRequestedAt),
    retryAt: timeOrNull(job.retryAt),
    deadlineAt: timeOrNull(job.deadlineAt),
    metadata: job.metadata,
    error: job.error,
    input,
    output:
      output === "" && job.usage === null && job.status !== "succeeded"
        ? null
        : { text: output, truncated: job.truncated, usage: job.usage },
    attempts: job.attempts.map(({ finishedAt, startedAt, ...attempt }) => ({
      ...attempt,
      startedAt: time(startedAt),
      finishedAt: timeOrNull(finishedAt),
    })),
    webhook: job.webhook === null ? null : webhook(job, job.webhook, delivery),
    deliveryOf: job.deliveryOf?.id ?? null,
  } satisfies typeof Job.Encoded
  if (queue === null) return written
  const { ahead, expectedStartAt } = queue
  return Object.assign(written, {
    position: ahead === null ? null : ahead + 1,
    expectedStartAt: timeOrNull(expectedStartAt),
  })
}

const webhook = (
  { status }: StoredJob,
  { delivery: id, url }: StoredWebhook,
  delivery: StoredJob | null,
): typeof Webhook.Encoded => ({
  url,
  id,
  status: delivery?.status ?? (isTerminal(status) ? "removed" : "waiting"),
  attempts: delivery?.attempt ?? 0,
  error: delivery?.error ?? null,
  retryAt: timeOrNull(delivery?.retryAt ?? null),
  finishedAt: timeOrNull(delivery?.finishedAt ?? null),
})

export const resource = (state: ResourceState): typeof Resource.Encoded => ({
  name: state.name,
  adapter: state.adapter,
  command: state.command,
  permits: state.permits,
  running: state.running,
  queued: state.queued,
  serviceSeconds: state.serviceMillis === null ? null : Math.round(state.serviceMillis) / 1000,
  heldUntil: timeOrNull(state.heldUntil),
})

const timeOrNull = (millis: number | null): string | null => (millis === null ? null : time(millis))
