/**
 * What a start does before it gives a permit: ends what an earlier run left behind, so that the ceiling holds, and
 * gives each attempt that it was in the middle of an outcome.
 */
import { Effect } from "effect"
import { dispositions } from "../Job/JobError.js"
import type { Outcome } from "../Job/Transition.js"
import { type Orphan, Store, type StoreError } from "../Store.js"
import { logOutcome } from "./JobLog.js"
import { Outcomes } from "./Outcomes.js"
import { Spool, type SpoolError } from "./Spool.js"
import { Worker } from "./Worker.js"

/** Gives outcomes to the attempts of a run that has died. Fails where that cannot be done: nothing may start then. */
export const rescue: Effect.Effect<void, StoreError | SpoolError, Store | Spool | Outcomes | Worker> = Effect.gen(
  function* () {
    const store = yield* Store
    const worker = yield* Worker

    const killed = yield* worker.killOrphans
    const replayed = yield* (yield* Spool).replay(({ id, attempt, outcome, at, text }) =>
      store.settle(id, attempt, outcome, { at, text }).pipe(
        Effect.flatMap((job) => logOutcome(job, job.error === null ? "Info" : "Warning")),
        // It reached the store after all, or its job was removed meanwhile.
        Effect.catchTags({ StaleAttempt: () => Effect.void, JobNotFound: () => Effect.void }),
      ),
    )

    const orphans = yield* store.orphans(() => false)
    yield* Effect.forEach(orphans, rescueJob)

    if (killed + replayed + orphans.length > 0) {
      yield* Effect.logWarning("rescued what an earlier run left").pipe(
        Effect.annotateLogs({
          orphans: orphans.filter(({ drained }) => !drained).length,
          drained: orphans.filter(({ drained }) => drained).length,
          spooled: replayed,
          processesKilled: killed,
        }),
      )
    }
  },
).pipe(Effect.annotateLogs({ module: "Offload" }))

/**
 * Gives a running job's attempt, which nothing carries any more, its outcome: `Interrupted` where its process was
 * draining, and was killed before the drain had ended; else `Orphaned`.
 */
export const rescueJob = ({ drained, job }: Orphan): Effect.Effect<void, StoreError, Store | Outcomes> =>
  Effect.gen(function* () {
    const store = yield* Store
    const outcomes = yield* Outcomes
    const outcome: Outcome = drained
      ? { _tag: "Interrupted", retryAt: yield* outcomes.resumeAt(job) }
      : { _tag: "Orphaned", retryAt: yield* outcomes.rescueAt(job) }
    const rescued = yield* store.settle(job.id, job.attempt, outcome)
    yield* logOutcome(rescued, drained ? "Info" : dispositions.Orphaned.level)
  }).pipe(
    // It was settled, or removed, meanwhile.
    Effect.catchTags({ StaleAttempt: () => Effect.void, JobNotFound: () => Effect.void }),
  )
