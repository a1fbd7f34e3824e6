/**
 * Submitting a job: what is saved, and what is answered. As an effect for everybody, and with a callback for the one
 * call that must cost as little as can be.
 */
import { Effect, Either } from "effect"
import type { NewJob } from "../Job/Transition.js"
import { type Input, type Job, type JobId, makeId } from "../Job.js"
import type { OffloadConfig, Resource } from "../OffloadConfig.js"
import {
  type Counts,
  type CreateError,
  type JobNotFound,
  QueueFull,
  type Submitted as Saved,
  type Store,
  type StoreError,
} from "../Store.js"
import type { Webhook, WebhookRefused } from "../Webhook.js"
import type { Dispatcher } from "./Dispatcher.js"
import { logSubmitted, submittedLog } from "./JobLog.js"
import type { Permits } from "./Permits.js"
import {
  MaybeSaved,
  type Snapshot,
  type Submission,
  SubmissionNotAllowed,
  type Submit,
  type SubmitError,
  type Submitted,
  type UnknownResource,
  WebhooksNotConfigured,
} from "./Submission.js"

interface Options {
  readonly config: OffloadConfig["Type"]
  readonly dispatcher: Dispatcher["Type"]
  readonly permits: Permits["Type"]
  readonly store: Store["Type"]
  readonly webhooks: Webhook["Type"]
  readonly find: (resource: string) => Effect.Effect<Resource, UnknownResource>
  readonly get: (id: JobId) => Effect.Effect<Snapshot, JobNotFound | StoreError>
  /** When a job is expected to begin that has so many before it, while so many run. */
  readonly expectedStartAt: (job: Job, ahead: number, running: number, now: number) => number | null
}

/** Why the settings do not allow what a submission asks for; `null` where they do. */
const refusalOf = (
  { input, maxAttempts, timeoutMillis }: Submission,
  { models }: Resource,
  { maxAttemptsLimit, maxTimeout }: OffloadConfig["Type"],
): SubmissionNotAllowed | null => {
  if (timeoutMillis !== undefined && timeoutMillis > maxTimeout) {
    return new SubmissionNotAllowed({ member: "timeoutSeconds", allowed: `at most ${maxTimeout / 1000}` })
  }
  if (maxAttempts !== undefined && maxAttempts > maxAttemptsLimit) {
    return new SubmissionNotAllowed({ member: "maxAttempts", allowed: `at most ${maxAttemptsLimit}` })
  }
  if (models !== null && input.model !== undefined && !models.includes(input.model)) {
    return new SubmissionNotAllowed({ member: "model", allowed: `one of ${models.join(", ")}` })
  }
  return null
}

/** Logs as the fiber does that makes it. */
export const make = ({ config, dispatcher, expectedStartAt, find, get, permits, store, webhooks }: Options) =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const logNow = yield* submittedLog
    const { maxBytesPerCaller, maxQueued, maxQueuedPerCaller, maxStoreBytes } = config
    const limits = { maxQueued, maxQueuedPerCaller, maxBytes: maxStoreBytes, maxBytesPerCaller }

    const newJob = (submission: Submission, resource: Resource, webhook: Job["webhook"], now: number): NewJob => ({
      id: makeId(now),
      resource: resource.name,
      caller: submission.caller,
      input: submission.input,
      metadata: submission.metadata,
      maxAttempts: submission.maxAttempts ?? config.maxAttempts,
      timeoutMillis: submission.timeoutMillis ?? resource.timeoutMillis,
      maxCostUsd: submission.maxCostUsd ?? null,
      deadlineMillis: submission.deadlineMillis ?? null,
      webhook,
      idempotency: submission.idempotency ?? null,
    })

    /** What the job keeps of its webhook, if it has one that is taken. */
    const webhookOf = (
      webhook: Submission["webhook"],
      now: number,
    ): Effect.Effect<Job["webhook"], WebhooksNotConfigured | WebhookRefused> => {
      if (webhook === undefined) return Effect.succeed(null)
      if (config.webhookSecrets.length === 0) return new WebhooksNotConfigured()
      return Effect.as(webhooks.check(webhook.url), {
        url: webhook.url,
        delivery: makeId(now),
        maxAttempts: config.webhookRetry.length + 1,
        timeoutMillis: config.webhookTimeout,
      })
    }

    /** When a permit is given back next, on the average. */
    const placeSoon = (resource: string): { readonly retryAfterMillis?: number } => {
      const usage = permits.usage(resource)
      return usage === null || usage.serviceMillis === null
        ? {}
        : { retryAfterMillis: Math.ceil(usage.serviceMillis / usage.permits) }
    }

    const refusal = (error: CreateError, { id, idempotency }: NewJob): SubmitError => {
      if (error._tag === "QueueFull") return new QueueFull({ ...error, ...placeSoon(error.resource) })
      if (error._tag !== "StoreError" || error.reason === "malformed" || error.unmade === true) return error
      return new MaybeSaved({ id, keyed: idempotency !== null })
    }

    /** What the store says of itself is for the log, in which a caller's problem must be found. */
    const refuse = (error: CreateError, job: NewJob): Effect.Effect<never, SubmitError> => {
      const refused = refusal(error, job)
      if (refused._tag !== "MaybeSaved") return Effect.fail(refused)
      return Effect.zipRight(
        Effect.logWarning("job may have been saved: the store did not answer").pipe(
          Effect.annotateLogs({ module: "Offload", jobId: job.id, error: error.message }),
        ),
        Effect.fail(refused),
      )
    }

    // The newest job is the last, or earlier where callers take turns. Counting those before it, as `get` does, would
    // make each submission dearer than the one before.
    const last = (job: Job, input: Input, { queued, running }: Pick<Counts, "queued" | "running">): Snapshot => {
      const ahead = Math.max(0, queued - 1)
      const queue = { ahead, expectedStartAt: expectedStartAt(job, ahead, running, job.createdAt) }
      return { job, input, output: "", queue, delivery: null }
    }

    const look = (job: Job, input: Input): Effect.Effect<Snapshot, StoreError> =>
      Effect.map(store.counts, (counts) => last(job, input, counts.get(job.resource) ?? { queued: 0, running: 0 }))

    // The job is saved: a store that fails now must not turn the answer into a refusal.
    const orAsSaved = (
      found: Effect.Effect<Snapshot, JobNotFound | StoreError>,
      job: Job,
      input: Input,
    ): Effect.Effect<Snapshot> =>
      Effect.catchAll(found, (error) =>
        Effect.as(
          Effect.logWarning("answered without its place in the queue").pipe(
            Effect.annotateLogs({ module: "Offload", jobId: job.id, error: error.message }),
          ),
          { job, input, output: "", queue: null, delivery: null },
        ),
      )

    /** The rest of a submission that is saved, and logged. */
    const saved = ({ counts, created, job }: Saved, input: Input): Effect.Effect<Submitted> =>
      Effect.map(
        !created
          ? orAsSaved(get(job.id), job, input)
          : Effect.zipRight(
              dispatcher.feed(job.resource),
              counts === undefined
                ? orAsSaved(look(job, input), job, input)
                : Effect.sync(() => last(job, input, counts)),
            ),
        (snapshot) => ({ snapshot, created }),
      )

    const save = (submission: Submission, resource: Resource): Effect.Effect<Submitted, SubmitError> =>
      Effect.suspend((): Effect.Effect<Submitted, SubmitError> => {
        const refused = refusalOf(submission, resource, config)
        if (refused !== null) return refused
        const now = clock.unsafeCurrentTimeMillis()
        return Effect.flatMap(webhookOf(submission.webhook, now), (webhook) => {
          const job = newJob(submission, resource, webhook, now)
          return Effect.matchEffect(store.create(job, limits), {
            onFailure: (error) => refuse(error, job),
            onSuccess: (submitted) => {
              const rest = saved(submitted, submission.input)
              return submitted.created ? Effect.zipRight(logSubmitted(submitted.job), rest) : rest
            },
          })
        })
      })

    /** What `save` does after the store's answer, without a fiber as far as that goes. */
    const conclude = (
      submitted: NewJob,
      result: Either.Either<Saved, CreateError>,
    ): Effect.Effect<Submitted, SubmitError> => {
      if (Either.isLeft(result)) return refuse(result.left, submitted)
      const { input } = submitted
      const { counts, created, job } = result.right
      const now = clock.unsafeCurrentTimeMillis()
      if (created) logNow(job, now)
      return created && counts !== undefined && !dispatcher.isHungry(job.resource, now)
        ? Either.right({ snapshot: last(job, input, counts), created })
        : Effect.uninterruptible(saved(result.right, input))
    }

    const begin: Submit["begin"] = (submission, done) => {
      const { resource: name = config.resources[0].name } = submission
      const resource = config.resources.find((each) => each.name === name)
      if (store.create.begin === undefined || resource === undefined || submission.webhook !== undefined) return false
      if (refusalOf(submission, resource, config) !== null) return false
      const now = clock.unsafeCurrentTimeMillis()
      const job = newJob(submission, resource, null, now)
      return store.create.begin(job, limits, now, (result) => {
        let rest: Effect.Effect<Submitted, SubmitError>
        try {
          rest = conclude(job, result)
        } catch (defect) {
          // Who commits in the same turn must not suffer from it, and the caller has to have an answer.
          rest = Effect.die(defect)
        }
        done(rest)
      })
    }

    const submit = (submission: Submission): Effect.Effect<Submitted, SubmitError> => {
      const { resource: name } = submission
      const resource = name === undefined ? Effect.succeed(config.resources[0]) : find(name)
      return Effect.uninterruptible(Effect.flatMap(resource, (resource) => save(submission, resource)))
    }

    return Object.assign(submit, { begin }) satisfies Submit
  })
