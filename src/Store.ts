/**
 * Where jobs are kept: the contract. `Store/Memory.ts` keeps them in the process, `Store/Lmdb.ts` in a folder.
 *
 * What every layer promises:
 * - A write is durable before its effect succeeds; a write that failed has changed nothing, or has been made whole.
 *   Each of them can be made again after a `StoreError`, and is then made once.
 * - A job that has a webhook is given its delivery in the write that ends it, whichever operation that is: a queued job
 *   of the resource `deliveries` (see `Job/Delivery.ts`), which no limit of a queue keeps out.
 * - Each operation is atomic, and applies the transitions of `Job/Transition.ts` alone.
 * - Each operation answers or fails within 2 s.
 * - Times come from Effect's `Clock`.
 */
import { Context, type Effect, type Either, Schema } from "effect"
import type { Claim, NewJob, Outcome } from "./Job/Transition.js"
import type { Event, Input, Job, Piece, Status } from "./Job.js"
import { JobId } from "./Job.js"

/** The store could not do what it was asked; what was stored before is unchanged. */
export class StoreError extends Schema.TaggedError<StoreError>()("StoreError", {
  /** The operation of the contract. */
  operation: Schema.String,
  /** `unavailable`: try again later. `malformed`: a record cannot be read, `detail` names it. */
  reason: Schema.Literal("unavailable", "malformed"),
  detail: Schema.String,
  cause: Schema.optional(Schema.Defect),
  /** Whether it is known that nothing was written. Default: it is not, and a write may have been made, or may yet be. */
  unmade: Schema.optional(Schema.Boolean),
  /** Whether it was refused because the store's disk or memory is full. Default: no. */
  full: Schema.optional(Schema.Boolean),
}) {
  override get message(): string {
    return `Store.${this.operation}: ${this.detail}`
  }
}

/** There is no such job, or there is none any more. */
export class JobNotFound extends Schema.TaggedError<JobNotFound>()("JobNotFound", { id: JobId }) {
  override get message(): string {
    return `There is no job '${this.id}'.`
  }
}

/** The idempotency key was used for another submission. */
export class IdempotencyConflict extends Schema.TaggedError<IdempotencyConflict>()("IdempotencyConflict", {
  key: Schema.String,
  id: JobId,
}) {
  override get message(): string {
    return `The Idempotency-Key was used before, with another body or for another call, for job '${this.id}'.`
  }
}

/** The idempotency key was used for the same submission, and its job was removed less than 24 h after its end. */
export class JobGone extends Schema.TaggedError<JobGone>()("JobGone", { key: Schema.String, id: JobId }) {
  override get message(): string {
    return `The Idempotency-Key was used for job '${this.id}', which has ended and was removed. Nothing was saved.`
  }
}

/** The queue of the resource, or that of the caller, has reached its limit; nothing was saved. */
export class QueueFull extends Schema.TaggedError<QueueFull>()("QueueFull", {
  resource: Schema.String,
  scope: Schema.Literal("resource", "caller"),
  limit: Schema.Number,
  /** After how many milliseconds there may be a place again, where that can be guessed. */
  retryAfterMillis: Schema.optional(Schema.Number),
}) {
  override get message(): string {
    return this.scope === "caller"
      ? `The caller has ${this.limit} jobs waiting, its limit. Nothing was saved.`
      : `The queue of resource '${this.resource}' is full (${this.limit} jobs). Nothing was saved.`
  }
}

/** There is no room for the job; nothing was saved. */
export class StoreFull extends Schema.TaggedError<StoreFull>()("StoreFull", {
  /** What has no room: the disk or the memory that the store is on, the store, or the caller's share of it. */
  scope: Schema.Literal("machine", "store", "caller"),
  /** The limit that is reached, in bytes; `null` for the machine. */
  limitBytes: Schema.NullOr(Schema.Number),
}) {
  override get message(): string {
    if (this.scope === "caller") return `The caller's jobs take ${this.limitBytes} bytes, its limit. Nothing was saved.`
    return this.scope === "store"
      ? `The store keeps ${this.limitBytes} bytes of jobs, its limit. Nothing was saved.`
      : "The store's disk or memory is full. Nothing was saved."
  }
}

/** The writer is not the job's live attempt; nothing was changed. */
export class StaleAttempt extends Schema.TaggedError<StaleAttempt>()("StaleAttempt", {
  id: JobId,
  attempt: Schema.Number,
}) {
  override get message(): string {
    return `Attempt ${this.attempt} of job '${this.id}' is not its live attempt.`
  }
}

/** Only a job that has ended can be removed. */
export class JobNotTerminal extends Schema.TaggedError<JobNotTerminal>()("JobNotTerminal", { id: JobId }) {
  override get message(): string {
    return `Job '${this.id}' has not ended; cancel it first.`
  }
}

/** A job together with its input. */
export interface JobWithInput {
  readonly job: Job
  readonly input: Input
}

/** A page of a listing. `cursor` is opaque; `null` on the last page. */
export interface Page {
  readonly jobs: ReadonlyArray<Job>
  readonly cursor: string | null
}

/** A running job whose attempt nobody carries any more. */
export interface Orphan {
  readonly job: Job
  /** The process that claimed it had said `drain`: it was ending its attempts on purpose. */
  readonly drained: boolean
}

/** How many jobs of a resource are in each state. */
export type Counts = { readonly [status in Status]: number }

/** Whose turn it is. */
export interface Turns {
  /**
   * When a caller had its last turn, on any scale that grows: the smallest comes first, who never had one before all,
   * and of those alike whose first job is the oldest. Default: nobody had one.
   */
  readonly last?: ReadonlyMap<string, number>
  /** Callers whose turn it is not, whatever they have. Default: none. */
  readonly skip?: ReadonlySet<string>
}

/** What `advance` did. */
export interface Advanced {
  /** Jobs whose backoff ended: ready to be claimed. */
  readonly ready: ReadonlyArray<Job>
  /** Jobs that were failed as `Expired`. */
  readonly expired: ReadonlyArray<Job>
  /** How many jobs were removed because their retention ended. */
  readonly removed: number
}

/** What `release` and `shorten` did. */
export interface Released {
  /** How many jobs wait no longer, or not so long. */
  readonly released: number
  /** Where to go on; `null`: there is nothing left to look at. */
  readonly cursor: string | null
}

/** What became of a submission. */
export interface Submitted {
  readonly job: Job
  readonly created: boolean
  /** How many jobs of its resource wait and run now that it is saved, where the store knows without another look. */
  readonly counts?: Pick<Counts, "queued" | "running">
}

/** Why a job is not saved. */
export type CreateError = IdempotencyConflict | JobGone | QueueFull | StoreFull | StoreError

/** How a job is saved. */
export interface Create {
  /**
   * Saves a job as `queued`. With an idempotency key that this caller used for the same submission, answers that job
   * with `created: false` and changes nothing. A key counts until 24 h after the end of its job; where the job was
   * removed before that, the submission is refused as `JobGone`.
   *
   * `maxQueued` is the limit of queued jobs of the resource, `maxQueuedPerCaller` that of the caller over all
   * resources (`null`, the default: none), those in backoff included, checked before anything is written. A job whose
   * id is already saved is answered in the same way, so that a call which failed with a `StoreError` can be made again.
   */
  (job: NewJob, options: Limits): Effect.Effect<Submitted, CreateError>
  /**
   * The same without a fiber, which is most of its price, for a store that can: calls back once with what the effect
   * would answer, `now` being the time. `false`: this submission needs the effect, and nothing was done. It belongs to
   * the function, so that a store that puts another one before it is not gone around.
   */
  readonly begin?: (
    job: NewJob,
    options: Limits,
    now: number,
    done: (result: Either.Either<Submitted, CreateError>) => void,
  ) => boolean
}

/** How many jobs may be queued, and how large they may be together. */
export interface Limits {
  readonly maxQueued: number
  readonly maxQueuedPerCaller?: number | null
  /**
   * How many bytes of jobs may be kept with the new one: input, metadata and log of each, until it is removed. Output
   * and deliveries of jobs that were taken on may pass it. `null`, the default: any number.
   */
  readonly maxBytes?: number | null
  /** The same of the caller's jobs. */
  readonly maxBytesPerCaller?: number | null
}

export class Store extends Context.Tag("effect-offload/Store")<
  Store,
  {
    /** What a person calls it, such as `memory` or `lmdb (/var/lib/offload)`. */
    readonly description: string

    /** Saves a job. */
    readonly create: Create

    /** A job. */
    readonly get: (id: JobId) => Effect.Effect<Job, JobNotFound | StoreError>

    /** A job and what it was given. */
    readonly getWithInput: (id: JobId) => Effect.Effect<JobWithInput, JobNotFound | StoreError>

    /**
     * Jobs of a caller, newest first; deliveries only where `resource` asks for them. `limit` is at least 1. A cursor stays valid while jobs come and go: the next
     * page continues below the last job of the page before. A cursor that this store did not make is as no cursor.
     */
    readonly list: (query: {
      readonly caller: string
      readonly status?: Status | undefined
      readonly resource?: string | undefined
      readonly limit: number
      readonly cursor?: string | undefined
    }) => Effect.Effect<Page, StoreError>

    /** How many jobs each resource has in each state; a resource that never had a job is absent. */
    readonly counts: Effect.Effect<ReadonlyMap<string, Counts>, StoreError>

    /**
     * The next jobs of a resource that can be claimed now, at most `limit`: callers in turn, each caller's own jobs in
     * the order in which they were saved. Jobs in backoff, and those of the callers in `skip`, are not among them. Cost
     * does not grow with the queue.
     */
    readonly queued: (resource: string, limit: number, turns?: Turns) => Effect.Effect<ReadonlyArray<JobId>, StoreError>

    /** How many jobs `queued` would give before this one, counted up to 10,000; `null` unless it can be claimed now. */
    readonly ahead: (id: JobId, turns?: Turns) => Effect.Effect<number | null, JobNotFound | StoreError>

    /** The jobs that are `running`. */
    readonly running: Effect.Effect<ReadonlyArray<Job>, StoreError>

    /**
     * Those of them whose attempt nobody carries any more: the process that claimed it is gone, or is this one, and
     * `isCarried` says no. A store that several processes share knows of each whether it lives.
     */
    readonly orphans: (isCarried: (id: JobId) => boolean) => Effect.Effect<ReadonlyArray<Orphan>, StoreError>

    /**
     * Says that this process is about to end, and ends its attempts on purpose: one write, however many they are. Those
     * that it does not end itself are `drained` orphans from then on, whether they were claimed before or while this
     * write was made. It claims nothing more: `claim` answers `null`, also where the write fails. A second call changes
     * nothing. A later process does not inherit it. A store that several processes share forgets it after seven days.
     */
    readonly drain: Effect.Effect<void, StoreError>

    /**
     * Begins the next attempt of a job that `queued` may give. `null` where it is no longer queued, or in backoff, or
     * its deadline has passed, or it is a suspect and the claim is not `alone`, or this process drains.
     *
     * `name` tells one claim from all others: made again under it while its attempt is the live one, a claim answers
     * that attempt and changes nothing, so that one which failed with a `StoreError` can be made again.
     */
    readonly claim: (
      id: JobId,
      adapter: string,
      how?: Claim,
    ) => Effect.Effect<JobWithInput | null, JobNotFound | StoreError>

    /**
     * Adds a piece to the output of the live attempt. What the output already has of it is not added again, so that a
     * piece whose write failed with a `StoreError` can be written again, also together with the text after it. A piece
     * that begins beyond the end of the output, of which the store has lost a part, is added at its end.
     */
    readonly append: (
      id: JobId,
      attempt: number,
      piece: Piece,
    ) => Effect.Effect<void, JobNotFound | StaleAttempt | StoreError>

    /**
     * Ends the live attempt, adding its last piece of output as `append` does, in the same write. Once only: a second
     * call is a `StaleAttempt`, which its caller may take for success after a `StoreError` of the first.
     */
    readonly settle: (
      id: JobId,
      attempt: number,
      outcome: Outcome,
      last?: Piece,
    ) => Effect.Effect<Job, JobNotFound | StaleAttempt | StoreError>

    /** Asks for a job's end (see `Transition.cancel`). On a job that has ended, or asked before, changes nothing. */
    readonly cancel: (id: JobId) => Effect.Effect<Job, JobNotFound | StoreError>

    /** Queues a delivery again (see `Transition.redeliver`). On anything else, or called again, changes nothing. */
    readonly redeliver: (id: JobId) => Effect.Effect<Job, JobNotFound | StoreError>

    /** Removes a job that has ended, its input, output and log. Its idempotency key counts on, see `create`. */
    readonly remove: (id: JobId) => Effect.Effect<void, JobNotFound | JobNotTerminal | StoreError>

    /**
     * The job's log after event number `after` (0: from its beginning), at most `limit` events (default: 1000), in
     * order, and the job as it was at the moment of reading.
     */
    readonly events: (
      id: JobId,
      after: number,
      limit?: number,
    ) => Effect.Effect<{ readonly job: Job; readonly events: ReadonlyArray<Event> }, JobNotFound | StoreError>

    /** Waits until the job has an event after number `after`, or is no more. Costs nothing while it waits. */
    readonly awaitEvent: (id: JobId, after: number) => Effect.Effect<void, StoreError>

    /** The text that the newest attempt has put out so far. */
    readonly output: (id: JobId) => Effect.Effect<string, JobNotFound | StoreError>

    /**
     * Does what is due by now, at most `limit` of it (default: 1000): ends backoffs, fails queued jobs past their
     * deadline, removes jobs that ended more than `retentionMillis` ago.
     */
    readonly advance: (options: {
      readonly retentionMillis: number
      readonly limit?: number
    }) => Effect.Effect<Advanced, StoreError>

    /**
     * Ends the backoff of jobs of a resource that wait because they were refused or told to wait (see
     * `Transition.release`). Looks at `limit` jobs in backoff at most, of any resource (default: 1000), from `cursor` on
     * (default: from the first). Called again changes nothing more.
     */
    readonly release: (options: {
      readonly resource: string
      readonly cursor?: string | undefined
      readonly limit?: number
    }) => Effect.Effect<Released, StoreError>

    /**
     * Shortens backoffs that were set by a clock which was ahead (see `Transition.shorten`): for a caller who finds that
     * the clock was set back, or cannot know. Looks at jobs as `release` does. Called again for the same clock it may
     * shorten further those whose backoff is longer than the clock was ahead.
     */
    readonly shorten: (options: {
      readonly cursor?: string | undefined
      readonly limit?: number
    }) => Effect.Effect<Released, StoreError>

    /** Succeeds if the store can take a write now. */
    readonly ping: Effect.Effect<void, StoreError>
  }
>() {}
