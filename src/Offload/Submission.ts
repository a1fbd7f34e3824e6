/** What is submitted, what is answered, and why a submission is refused. */
import { type Effect, Schema } from "effect"
import type { Idempotency } from "../Job/Transition.js"
import { type Input, type Job, JobId, type Metadata } from "../Job.js"
import type { CreateError } from "../Store.js"
import type { WebhookRefused } from "../Webhook.js"

/** The job has a webhook, and there is no secret to sign its delivery with; nothing was saved. */
export class WebhooksNotConfigured extends Schema.TaggedError<WebhooksNotConfigured>()("WebhooksNotConfigured", {}) {
  override get message(): string {
    return "The service sends no webhooks: OFFLOAD_WEBHOOK_SECRET is not set."
  }
}

/** No resource has this name; nothing was saved. */
export class UnknownResource extends Schema.TaggedError<UnknownResource>()("UnknownResource", {
  resource: Schema.String,
  known: Schema.Array(Schema.String),
}) {
  override get message(): string {
    return `There is no resource '${this.resource}'. Known: ${this.known.join(", ")}.`
  }
}

/** The job asks for more than the settings allow its callers; nothing was saved. */
export class SubmissionNotAllowed extends Schema.TaggedError<SubmissionNotAllowed>()("SubmissionNotAllowed", {
  /** The member of the submission, as the API names it. */
  member: Schema.Literal("timeoutSeconds", "maxAttempts", "model"),
  /** What it may be. */
  allowed: Schema.String,
}) {
  override get message(): string {
    return `${this.member}: it may be ${this.allowed}.`
  }
}

/** The store did not answer: the job may be saved, and then it runs. */
export class MaybeSaved extends Schema.TaggedError<MaybeSaved>()("MaybeSaved", {
  /** The id that it has if it is. */
  id: JobId,
  /** Whether it has an idempotency key, under which it can be submitted again and is one job. */
  keyed: Schema.Boolean,
}) {
  override get message(): string {
    const unknown = `The store did not answer. The job may have been saved, as '${this.id}', and then it runs.`
    return this.keyed
      ? `${unknown} Repeat the request with the same Idempotency-Key: it is one job, however often it is sent.`
      : `${unknown} The request had no Idempotency-Key, so that a repetition may run the work twice: ask for that job first, and send a key with each submission.`
  }
}

/** What a caller asks for. Durations are milliseconds; what is absent takes the service's default. */
export interface Submission {
  readonly caller: string
  /** The first of the configured ones where it is absent. */
  readonly resource?: string | undefined
  readonly input: Input
  readonly metadata: Metadata
  readonly maxAttempts?: number | undefined
  readonly timeoutMillis?: number | undefined
  readonly maxCostUsd?: number | undefined
  readonly deadlineMillis?: number | undefined
  /** Where its outcome is to be told. */
  readonly webhook?: { readonly url: string } | undefined
  readonly idempotency?: Idempotency | undefined
}

/** A job with everything that can be said of it now. */
export interface Snapshot {
  readonly job: Job
  readonly input: Input
  /** The text of the newest attempt so far. */
  readonly output: string
  /** While queued: how many jobs go first (`null` in backoff), and when it is expected to begin (`null`: not known). */
  readonly queue: { readonly ahead: number | null; readonly expectedStartAt: number | null } | null
  /** How its outcome is being told: `null` before it has ended, without a webhook, and once that is no longer kept. */
  readonly delivery: Job | null
}

/** `created: false`: an earlier submission with the same idempotency key. */
export interface Submitted {
  readonly snapshot: Snapshot
  readonly created: boolean
}

/** Why a submission was not saved, or may not have been. */
export type SubmitError =
  | UnknownResource
  | SubmissionNotAllowed
  | WebhooksNotConfigured
  | WebhookRefused
  | MaybeSaved
  | CreateError

/** How a job is submitted. */
export interface Submit {
  /**
   * Saves a job and, where a permit is free, forks it, in one uninterruptible step: once this answers, the job is
   * durable and will reach exactly one terminal state.
   */
  (submission: Submission): Effect.Effect<Submitted, SubmitError>
  /**
   * The same without a fiber, for the usual submission. Calls back once, when the job is saved or refused: with an
   * `Either` where there is nothing left to do, else with the rest of the effect, which has to be run. `false`: this
   * submission needs the effect, and nothing was done.
   */
  readonly begin?: (submission: Submission, done: (rest: Effect.Effect<Submitted, SubmitError>) => void) => boolean
}
