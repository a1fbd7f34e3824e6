/**
 * The two writes that frame an attempt, its claim and its outcome, and the one log line that each of them has.
 * A store that is out of reach is tried again for as long as the process lives; after that the spool keeps the outcome.
 */
import { randomUUID } from "node:crypto"
import { Clock, Context, Effect, Exit, identity, Layer, Random } from "effect"
import type { Disposition } from "../Job/JobError.js"
import { wait } from "../Job/Plausible.js"
import { deaths, failedAttempts, interruptedInARow, type Outcome, refusedAttempts } from "../Job/Transition.js"
import type { Failure, Job, JobId, Piece } from "../Job.js"
import { OffloadConfig } from "../OffloadConfig.js"
import { type JobWithInput, Store, type StoreError } from "../Store.js"
import { RunsAlone } from "./Alone.js"
import { logBegun, logOutcome } from "./JobLog.js"
import { Spool } from "./Spool.js"

/** How an attempt ended, and the piece of its output that is still to be stored with it. */
export interface Ended extends Piece {
  readonly id: JobId
  readonly attempt: number
  readonly outcome: Outcome
  readonly text: string
  readonly level: Disposition["level"]
}

export class Outcomes extends Context.Tag("effect-offload/Outcomes")<
  Outcomes,
  {
    /**
     * Begins the next attempt of a queued job, trying again while the store is out of reach. An interruption, to which
     * `interruptible` opens the time in between, does not end that: only the store can say whether a claim that failed
     * was made, and its attempt is to be handed back. `null`: the job is no longer queued, or its record cannot be read.
     */
    readonly claim: (job: Claimable, interruptible: Interruptible) => Effect.Effect<JobWithInput | null>

    /**
     * When the attempt after this one may begin: exponential backoff with jitter, or when the downstream said, up to
     * 24 h ahead. The backoffs of a delivery are those of `OFFLOAD_WEBHOOK_RETRY_SECONDS`.
     */
    readonly retryAt: (job: Job, failure: Failure | null) => Effect.Effect<number>

    /** When the attempt after one whose service has died may begin: not within 2 s, so that a loop of deaths is slow. */
    readonly rescueAt: (job: Job) => Effect.Effect<number>

    /**
     * When the attempt after one that is interrupted now may begin; `undefined`: at once. A first interruption is a
     * deploy, and delays nothing. From the second one in a row on the wait is 5 s, or the base of the retries where that
     * is longer, doubled with each, at most the longest wait of the retries: a service that is stopped again and again
     * does not begin a paid call each time.
     */
    readonly resumeAt: (job: Job) => Effect.Effect<number | undefined>

    /** Stores an outcome, and logs it. Ends when the store, or else the spool, has it. */
    readonly record: (ended: Ended) => Effect.Effect<void>

    /** From now on an outcome that the store does not take at once goes to the spool: the process is about to end. */
    readonly hurry: Effect.Effect<void>

    /** Jobs whose record could not be read: they stay as they are, and are left alone until the next start. */
    readonly unreadable: ReadonlySet<JobId>
  }
>() {
  static readonly layer: Layer.Layer<Outcomes, never, Store | Spool | OffloadConfig> = Layer.effect(
    Outcomes,
    Effect.gen(function* () {
      const store = yield* Store
      const spool = yield* Spool
      const config = yield* OffloadConfig
      const unreadable = new Set<JobId>()
      let hurried = false

      const backoff = (job: Job): number => {
        const { retryBase, retryMax, webhookRetry } = config
        return job.deliveryOf === null
          ? Math.min(retryMax, retryBase * 2 ** (failedAttempts(job) + refusedAttempts(job) + deaths(job)))
          : (webhookRetry[failedAttempts(job)] ?? Math.max(...webhookRetry))
      }

      const later = (job: Job, least: number): Effect.Effect<number> =>
        Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          const spread = yield* Random.nextRange(0.5, 1.5)
          return now + Math.ceil(Math.max(backoff(job) * spread, least))
        })

      const resumeMillis = (job: Job): number => {
        const base = Math.max(config.retryBase, leastResumeMillis)
        const before = interruptedInARow(job)
        return before === 0 ? 0 : Math.min(Math.max(config.retryMax, base), base * 2 ** (before - 1))
      }

      const claim = (
        job: Claimable,
        interruptible: Interruptible,
        name: string,
        pause = firstPause,
      ): Effect.Effect<JobWithInput | null> =>
        Effect.flatMap(RunsAlone, (alone) => store.claim(job.id, job.adapter, { name, alone })).pipe(
          Effect.tap((claimed) => (claimed === null ? Effect.void : logBegun(claimed.job))),
          Effect.catchTags({
            JobNotFound: () => Effect.succeed(null),
            StoreError: (error) => {
              if (error.reason === "malformed") return Effect.as(setAside(job.id, error), null)
              if (hurried)
                return Effect.as(logStoreError("job not begun: its attempt, if any, is rescued", error), null)
              return logStoreError("job not begun yet: the store is out of reach", error).pipe(
                Effect.zipRight(Effect.exit(interruptible(Effect.sleep(pause)))),
                Effect.flatMap((slept) =>
                  claim(job, Exit.isSuccess(slept) ? interruptible : identity, name, nextPause(pause)),
                ),
              )
            },
          }),
        )

      const setAside = (id: JobId, error: StoreError) => {
        unreadable.add(id)
        return Effect.logError("job left alone: its record cannot be read").pipe(
          Effect.annotateLogs({ error: error.message }),
        )
      }

      const record = (ended: Ended, pause = firstPause): Effect.Effect<void> =>
        store.settle(ended.id, ended.attempt, ended.outcome, { at: ended.at, text: ended.text }).pipe(
          Effect.flatMap((job) => logOutcome(job, ended.level)),
          Effect.catchTags({
            // Either an earlier write was applied though it failed, or a later attempt owns the job.
            StaleAttempt: () => Effect.logWarning("outcome not stored: its attempt had ended before"),
            JobNotFound: () => Effect.logWarning("outcome not stored: its job is no more"),
            StoreError: (error) =>
              hurried || error.reason === "malformed"
                ? keep(ended, error)
                : logStoreError("outcome not stored yet", error).pipe(
                    Effect.zipRight(Effect.sleep(pause)),
                    Effect.zipRight(record(ended, nextPause(pause))),
                  ),
          }),
        )

      const keep = (ended: Ended, error: StoreError) =>
        spool.save(ended).pipe(
          Effect.zipRight(logStoreError("outcome kept in the spool until the next start", error)),
          Effect.catchAll((spoolError) =>
            Effect.logError("outcome lost: neither the store nor the spool took it; its attempt will be rescued").pipe(
              Effect.annotateLogs({ error: error.message, spoolError: spoolError.message }),
            ),
          ),
        )

      return {
        unreadable,
        claim: (job, interruptible) => Effect.suspend(() => claim(job, interruptible, randomUUID())),
        record,
        hurry: Effect.sync(() => {
          hurried = true
        }),
        resumeAt: (job) =>
          Effect.gen(function* () {
            const millis = resumeMillis(job)
            if (millis === 0) return undefined
            const now = yield* Clock.currentTimeMillis
            const spread = yield* Random.nextRange(0.5, 1.5)
            return now + Math.ceil(Math.max(leastResumeMillis, millis * spread))
          }),
        retryAt: (job, failure) => later(job, wait(failure?.retryAfterMillis) ?? 0),
        rescueAt: (job) => later(job, leastRescueMillis),
      }
    }),
  )
}

/** A deploy that is made again within seconds is still a deploy; a stop loop takes less than this for each round. */
const leastResumeMillis = 5000

/** Whoever starts the service again sees for as long what the death has left: nothing. */
const leastRescueMillis = 2000

interface Claimable {
  readonly id: JobId
  readonly adapter: string
}
type Interruptible = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/**
 * The wait before a write is tried again, in milliseconds: doubles up to the longest. Nothing cuts it short, since
 * settling is uninterruptible and must not race anything: an interruption of its fiber would end the race, and with it
 * the outcome.
 */
const firstPause = 100
const nextPause = (pause: number): number => Math.min(pause * 2, 1000)

const logStoreError = (message: string, error: StoreError) =>
  Effect.logWarning(message).pipe(Effect.annotateLogs({ error: error.message }))
