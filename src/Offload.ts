/**
 * Takes slow work off the request path: a job is saved, answered for, and run behind the permits of its resource in a
 * supervised daemon fiber.
 *
 * ```ts
 * const settled = settle(job, work, { MyError: (error) => … }) // a handler for each error of the work
 * const fiber = yield* fork(settled)                           // the work itself does not compile here
 * ```
 */
import { Chunk, Clock, Context, Effect, Fiber, Layer, Option, RcMap, Schema, Stream } from "effect"
import { deliveries, type Event, type Input, isTerminal, type Job, type JobId, type Status } from "./Job.js"
import { Dispatcher, type Needs } from "./Offload/Dispatcher.js"
import { logCancel, logRedelivery } from "./Offload/JobLog.js"
import { Outcomes } from "./Offload/Outcomes.js"
import { Permits } from "./Offload/Permits.js"
import type { Spool, SpoolError } from "./Offload/Spool.js"
import { type Snapshot, type Submit, UnknownResource, WebhooksNotConfigured } from "./Offload/Submission.js"
import * as Submitting from "./Offload/Submit.js"
import { Worker } from "./Offload/Worker.js"
import { OffloadConfig, type Resource } from "./OffloadConfig.js"
import { type Counts, type JobNotFound, type JobNotTerminal, type Page, Store, type StoreError } from "./Store.js"
import { Webhook, type WebhookRefused } from "./Webhook.js"

export {
  CurrentAttempt,
  fork,
  type Handled,
  type Handlers,
  type Queued,
  type Settled,
  settle,
} from "./Offload/Settle.js"
export {
  MaybeSaved,
  type Snapshot,
  type Submission,
  SubmissionNotAllowed,
  type Submit,
  type SubmitError,
  type Submitted,
  UnknownResource,
  WebhooksNotConfigured,
} from "./Offload/Submission.js"
export { IdempotencyConflict, JobGone, JobNotFound, JobNotTerminal, QueueFull, StoreError, StoreFull } from "./Store.js"
export { WebhookRefused } from "./Webhook.js"

/** Jobs are kept, and none can be run on this machine until somebody mends it. */
export class CannotRun extends Schema.TaggedError<CannotRun>()("CannotRun", {
  /** What is wrong, such as a temporary folder that is gone. */
  reason: Schema.String,
  /** Whether everybody may know the reason. */
  isPublic: Schema.Boolean,
}) {
  override get message(): string {
    return `No job can be run here: ${this.reason}. Jobs are kept, and begin when that is mended.`
  }
}

/** What does the jobs, and what tells of their ends. */
type Work = Worker | Webhook

/** A resource now. */
export interface ResourceState {
  readonly name: string
  readonly adapter: string
  readonly command: string
  readonly permits: number
  /** Jobs that run, here or in another process that shares the store. */
  readonly running: number
  /** Jobs that wait, for a permit or for the end of their backoff. */
  readonly queued: number
  /** How long a permit is held, in milliseconds: a moving average; `null` before the first job. */
  readonly serviceMillis: number | null
  /** Until when none of its jobs is begun, because its downstream said so; `null` where nothing holds them. */
  readonly heldUntil: number | null
}

export class Offload extends Context.Tag("effect-offload/Offload")<
  Offload,
  {
    /** Saves a job and, where a permit is free, forks it. */
    readonly submit: Submit
    readonly get: (id: JobId) => Effect.Effect<Snapshot, JobNotFound | StoreError>
    /** The job alone. */
    readonly job: (id: JobId) => Effect.Effect<Job, JobNotFound | StoreError>
    /** Waits until the job has ended, at most so many milliseconds; then answers it as it is. */
    readonly awaitEnd: (id: JobId, millis: number) => Effect.Effect<Snapshot, JobNotFound | StoreError>
    /** A caller's jobs, newest first, without their input and output; deliveries only where `resource` asks for them. */
    readonly list: (query: {
      readonly caller: string
      readonly status?: Status | undefined
      readonly resource?: string | undefined
      readonly limit: number
      readonly cursor?: string | undefined
    }) => Effect.Effect<Page, StoreError>
    /**
     * Asks for a job's end. A queued job is cancelled at once; a running one is `cancelled` when its processes are
     * gone. A job that has ended stays as it is.
     */
    readonly cancel: (id: JobId) => Effect.Effect<Snapshot, JobNotFound | StoreError>
    /**
     * Queues a delivery again that has failed or was cancelled, under its own id, with all of its attempts before it.
     * Any other job stays as it is. Fails where no message would be sent to its receiver now.
     */
    readonly redeliver: (
      id: JobId,
    ) => Effect.Effect<Snapshot, JobNotFound | WebhooksNotConfigured | WebhookRefused | StoreError>
    /** Removes a job that has ended. */
    readonly remove: (id: JobId) => Effect.Effect<void, JobNotFound | JobNotTerminal | StoreError>
    /**
     * The job's log after event number `after`, as far as it has come, waiting for the next event where there is none
     * yet; at most `limit` events (default: 1000). `ended`: nothing will come after these.
     */
    readonly eventsAfter: (
      id: JobId,
      after: number,
      limit?: number,
    ) => Effect.Effect<
      { readonly events: ReadonlyArray<Event>; readonly job: Job; readonly ended: boolean },
      JobNotFound | StoreError
    >
    /** The job's log after event number `after`, then each new event as it comes; ends when the job has ended. */
    readonly events: (id: JobId, after: number) => Stream.Stream<Event, JobNotFound | StoreError>
    readonly resources: Effect.Effect<ReadonlyArray<ResourceState>, StoreError>
    /** How many jobs each resource has in each state, also one that is no longer configured. */
    readonly counts: Effect.Effect<ReadonlyMap<string, Counts>, StoreError>
    /** Changes a resource's permits until the next start, or ends what holds it. */
    readonly change: (
      resource: string,
      to: { readonly permits?: number | undefined; readonly heldUntil?: null | undefined },
    ) => Effect.Effect<ResourceState, UnknownResource | StoreError>
    /** Succeeds with `ready` while work is taken on, the store takes writes, and the machine can run a job. */
    readonly readiness: Effect.Effect<"ready" | "draining", StoreError | CannotRun>
    /** Stops forking, gives running attempts their grace, puts the rest back. Also done when the layer is released. */
    readonly drain: Effect.Effect<void>
    /** What a person calls the store. */
    readonly store: string
  }
>() {
  /** Needs a `Worker`: what the jobs do. And a dispatcher, which brings them to it. */
  static readonly layerDispatched = (
    dispatched: Layer.Layer<Dispatcher, StoreError | SpoolError, Needs>,
  ): Layer.Layer<Offload, StoreError | SpoolError, Store | Spool | Work | OffloadConfig> =>
    Layer.scoped(
      Offload,
      Effect.gen(function* () {
        const store = yield* Store
        const permits = yield* Permits
        const worker = yield* Worker
        const dispatcher = yield* Dispatcher
        const webhooks = yield* Webhook
        const config = yield* OffloadConfig

        const find = (name: string): Effect.Effect<Resource, UnknownResource> =>
          Effect.mapError(
            Effect.fromNullable(config.resources.find((resource) => resource.name === name)),
            () => new UnknownResource({ resource: name, known: config.resources.map(({ name }) => name) }),
          )

        const expectedStartAt = (job: Job, ahead: number, running: number, now: number): number | null => {
          const usage = permits.usage(job.resource)
          if (usage === null) return null
          if (usage.serviceMillis === null)
            return usage.heldUntil !== null && usage.heldUntil > now ? usage.heldUntil : null
          // Whole rounds of the permits that must end before one is free for this job.
          const rounds = Math.max(0, Math.ceil((ahead + 1 + running - usage.permits) / usage.permits))
          return Math.max(now, usage.heldUntil ?? 0) + Math.round(rounds * usage.serviceMillis)
        }

        const place = (job: Job) =>
          Effect.gen(function* () {
            if (job.status !== "queued") return null
            const ahead = yield* store.ahead(job.id, dispatcher.turns(job.resource))
            if (ahead === null) return { ahead, expectedStartAt: job.retryAt }
            const { running } = yield* countsOf(job.resource)
            return { ahead, expectedStartAt: expectedStartAt(job, ahead, running, yield* Clock.currentTimeMillis) }
          })

        const countsOf = (resource: string) =>
          Effect.map(store.counts, (counts) => ({ queued: 0, running: 0, ...counts.get(resource) }))

        const snapshot = (job: Job, input: Input): Effect.Effect<Snapshot, JobNotFound | StoreError> =>
          Effect.map(
            Effect.all([
              place(job),
              job.attempt === 0 ? Effect.succeed("") : store.output(job.id),
              isTerminal(job.status) && job.webhook !== null ? deliveryOf(job.webhook.delivery) : Effect.succeed(null),
            ]),
            ([queue, output, delivery]) => ({ job, input, output, queue, delivery }),
          )

        /** Each of the two is removed when its own retention ends. */
        const deliveryOf = (id: JobId) => Effect.catchTag(store.get(id), "JobNotFound", () => Effect.succeed(null))

        const get = (id: JobId) => Effect.flatMap(store.getWithInput(id), ({ job, input }) => snapshot(job, input))
        const submit = yield* Submitting.make({
          config,
          dispatcher,
          expectedStartAt,
          find,
          get,
          permits,
          store,
          webhooks,
        })

        /** One fiber follows a job for all who wait for its end: they are woken by that alone, and it is read once. */
        const ends = yield* RcMap.make({ lookup: (id: JobId) => Effect.forkScoped(ended(id)) })

        const ended = (id: JobId): Effect.Effect<Snapshot, JobNotFound | StoreError> =>
          Effect.flatMap(store.get(id), (job) =>
            isTerminal(job.status) ? get(id) : Effect.zipRight(store.awaitEvent(id, job.events), ended(id)),
          )

        const awaitEnd = (id: JobId, millis: number) =>
          Effect.flatMap(RcMap.get(ends, id), Fiber.join).pipe(
            Effect.scoped,
            Effect.timeoutOption(millis),
            Effect.flatMap(Option.match({ onNone: () => get(id), onSome: Effect.succeed })),
          )

        const eventsAfter = (id: JobId, after: number, limit?: number) =>
          Effect.gen(function* () {
            let page = yield* store.events(id, after, limit)
            if (page.events.length === 0 && !isTerminal(page.job.status)) {
              yield* store.awaitEvent(id, after)
              page = yield* store.events(id, after, limit)
            }
            const last = page.events.at(-1)?.event ?? after
            return { ...page, ended: isTerminal(page.job.status) && last >= page.job.events }
          })

        const events = (id: JobId, after: number) =>
          Stream.paginateChunkEffect(after, (from) =>
            Effect.map(eventsAfter(id, from), ({ ended, events }) => [
              Chunk.fromIterable(events),
              ended ? Option.none() : Option.some(events.at(-1)?.event ?? from),
            ]),
          )

        const cancel = (id: JobId) =>
          Effect.gen(function* () {
            const before = yield* store.get(id)
            const job = yield* store.cancel(id)
            yield* dispatcher.interrupt(id)
            if (job.webhook !== null) yield* dispatcher.feed(deliveries)
            if (before.cancelRequestedAt === null && job.cancelRequestedAt !== null) {
              yield* logCancel(job)
            }
          }).pipe(Effect.uninterruptible, Effect.zipRight(get(id)))

        const redeliver = (id: JobId) =>
          Effect.gen(function* () {
            const before = yield* store.get(id)
            if (config.webhookSecrets.length === 0) return yield* new WebhooksNotConfigured()
            if (before.deliveryOf !== null) yield* webhooks.check(before.deliveryOf.url)
            const job = yield* store.redeliver(id)
            yield* dispatcher.feed(deliveries)
            if (isTerminal(before.status) && job.status === "queued") yield* logRedelivery(job)
          }).pipe(Effect.uninterruptible, Effect.zipRight(get(id)))

        const states = Effect.map(Effect.all([store.counts, Clock.currentTimeMillis]), ([counts, now]) =>
          config.resources.map((resource): ResourceState => {
            const { name, permits: configured } = resource
            const usage = permits.usage(name) ?? {
              permits: configured,
              serviceMillis: null,
              heldUntil: null,
            }
            return {
              name,
              ...worker.describe(name),
              ...usage,
              heldUntil: usage.heldUntil !== null && usage.heldUntil > now ? usage.heldUntil : null,
              queued: counts.get(name)?.queued ?? 0,
              running: counts.get(name)?.running ?? 0,
            }
          }),
        )

        return {
          submit,
          get,
          job: store.get,
          awaitEnd,
          eventsAfter,
          events,
          cancel,
          redeliver,
          store: store.description,
          drain: dispatcher.drain,
          list: store.list,
          remove: (id) =>
            Effect.zipRight(
              store.remove(id),
              Effect.logInfo("job removed").pipe(Effect.annotateLogs({ module: "Offload", jobId: id })),
            ),
          resources: states,
          counts: store.counts,
          change: (name, to) =>
            Effect.gen(function* () {
              const { name: resource } = yield* find(name)
              yield* dispatcher.change(resource, to)
              yield* Effect.logInfo("resource changed").pipe(
                Effect.annotateLogs({ module: "Offload", resource, ...to }),
              )
              yield* dispatcher.feed(resource)
              const state = (yield* states).find((found) => found.name === resource)
              return state ?? (yield* new UnknownResource({ resource, known: [] }))
            }),
          readiness: Effect.gen(function* () {
            if (dispatcher.isDraining()) return "draining"
            yield* store.ping
            const deaf = yield* dispatcher.trouble
            if (deaf !== null) return yield* new CannotRun({ reason: deaf, isPublic: true })
            const reason = yield* worker.trouble ?? Effect.succeed(null)
            return reason === null ? "ready" : yield* new CannotRun({ reason, isPublic: false })
          }),
        }
      }),
    ).pipe(Layer.provide(dispatched), Layer.provide(Outcomes.layer), Layer.provide(Permits.layerFromConfig))

  /** One process does all jobs of its store. Needs a `Worker`: what the jobs do. */
  static readonly layerWorker: Layer.Layer<Offload, StoreError | SpoolError, Store | Spool | Work | OffloadConfig> =
    Offload.layerDispatched(Dispatcher.layer)

  /** The service's own worker: each job is a call of an LLM. */
  static readonly layer = Offload.layerWorker.pipe(Layer.provide(Worker.layerLlm))
}
