/** What is due: backoffs that end, deadlines that pass, what has been kept for its time. Each stands in `timers`. */
import { Clock, Effect, Either } from "effect"
import * as Transition from "../Job/Transition.js"
import { isTerminal, type Job, type JobId } from "../Job.js"
import type { Advanced, JobNotFound, Released } from "../Store.js"
import { answer, type Plan } from "./Commit.js"
import { type Jobs, jobIds, warn } from "./Jobs.js"
import * as Key from "./Key.js"
import { type Entry, type KvError, reading, remove } from "./Kv.js"
import * as Record from "./Record.js"

/** What became of one timer. */
export type Done = { readonly ready: Job } | { readonly expired: Job } | "removed" | "nothing"

/** How many timers are done at once: enough to fill a commit, few enough to leave the event loop to others. */
const concurrency = 50

export const advance = (
  jobs: Jobs,
  options: { readonly retentionMillis: number; readonly limit: number },
): Effect.Effect<Advanced, KvError> =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const { limit, retentionMillis } = options
    // Deadlines first: a job whose deadline has passed is not ready, whatever its backoff says.
    const due = [
      ...(yield* timers(jobs, "deadline", now + 1, limit)),
      ...(yield* timers(jobs, "backoff", now + 1, limit)),
      ...(yield* timers(jobs, "retention", now - retentionMillis, limit)),
      ...(yield* timers(jobs, "key", now - Record.idempotencyMillis + 1, limit)),
    ].slice(0, limit)
    if (due.length === 0) return { ready: [], expired: [], removed: 0 }
    const done = yield* Effect.forEach(due, (timer) => Effect.either(end(jobs, timer)), { concurrency })
    return yield* summary(done)
  })

/**
 * Ends or shortens the backoffs of those jobs for which `to` gives a next record: see `release` and `shorten` in the
 * contract. The cursor is the key of the last timer that was looked at.
 */
export const release = (jobs: Jobs, { cursor, limit, to }: ReleaseOptions): Effect.Effect<Released, KvError> =>
  Effect.gen(function* () {
    const { end, start } = Key.under("backoff")
    const timers = yield* reading(() =>
      // No key goes on where another one ends: what follows a blank comes after it.
      Array.from(jobs.kv.entries("timers", { start: cursor === undefined ? start : `${cursor} `, end, limit })),
    )
    const now = yield* Clock.currentTimeMillis
    const waiting = yield* jobs.readAll(timers.map(({ value }) => value))
    const released = yield* Effect.forEach(
      waiting.filter((job) => to(job, now) !== null),
      ({ id }) => releaseOne(jobs, id, to),
      { concurrency },
    )
    return {
      released: released.filter((is) => is).length,
      cursor: timers.length < limit ? null : (timers.at(-1)?.key ?? null),
    }
  })

export interface ReleaseOptions {
  readonly cursor?: string | undefined
  readonly limit: number
  /** The record of a job whose backoff ends, or becomes shorter; `null`: it stays as it is. */
  readonly to: (job: Job, now: number) => Job | null
}

/** Of refused jobs of a resource. */
export const refusedOf =
  (resource: string) =>
  (job: Job): Job | null =>
    job.resource === resource ? Transition.release(job) : null

const releaseOne = (jobs: Jobs, id: JobId, to: ReleaseOptions["to"]): Effect.Effect<boolean, KvError> =>
  jobs
    .change(id, (job, now): Either.Either<Plan<boolean>> => {
      const released = to(job, now)
      return Either.right(released === null ? answer(false) : jobs.move(job, released, now, true))
    })
    .pipe(Effect.catchTag("JobNotFound", () => Effect.succeed(false)))

/** What was done must be told, and the rest is still due at the next call: fails only where nothing was done. */
export const summary = (done: ReadonlyArray<Either.Either<Done, KvError>>): Either.Either<Advanced, KvError> => {
  const failed = done.find(Either.isLeft)
  if (failed !== undefined && done.every(Either.isLeft)) return Either.left(failed.left)
  const all = done.filter(Either.isRight).map(({ right }) => right)
  return Either.right({
    ready: all.flatMap((each) => (typeof each === "object" && "ready" in each ? [each.ready] : [])),
    expired: all.flatMap((each) => (typeof each === "object" && "expired" in each ? [each.expired] : [])),
    removed: all.filter((each) => each === "removed").length,
  })
}

type Kind = "deadline" | "backoff" | "retention" | "key"

interface Timer extends Entry {
  readonly kind: Kind
}

const timers = (jobs: Jobs, kind: Kind, before: number, limit: number): Effect.Effect<ReadonlyArray<Timer>, KvError> =>
  reading(() =>
    Array.from(
      jobs.kv.entries("timers", { start: Key.under(kind).start, end: Key.key(kind, before), limit }),
      (entry) => ({ ...entry, kind }),
    ),
  )

const end = (jobs: Jobs, timer: Timer): Effect.Effect<Done, KvError> =>
  timer.kind === "key" ? forgetKey(jobs, timer) : endOfJob(jobs, { ...timer, kind: timer.kind })

const forgetKey = (jobs: Jobs, { key: timer, value: key }: Timer): Effect.Effect<Done, KvError> =>
  jobs.run([key], () =>
    Either.right({ ...answer<Done>("nothing"), ops: Record.forgetUse(key, jobs.firstUse(key), timer) }),
  )

type JobTimer = Timer & { readonly kind: Exclude<Kind, "key"> }

const endOfJob = (jobs: Jobs, timer: JobTimer): Effect.Effect<Done, KvError> => {
  const drop: Plan<Done> = { ...answer("nothing"), ops: [remove("timers", timer.key)] }
  const [id] = jobIds([timer.value])
  const end = id === undefined ? Effect.succeed("nothing" as const) : byKind(jobs, timer, id, drop)
  return Effect.catchAll(end, (error) =>
    error._tag === "KvError" && error.reason === "unavailable"
      ? error
      : // Nothing will ever come of this timer, and it must not come up again at each call.
        Effect.zipRight(
          warn(error._tag === "KvError" ? error.detail : error.message),
          jobs.run([timer.key], () => Either.right(drop)),
        ),
  )
}

const byKind = (
  jobs: Jobs,
  timer: JobTimer,
  id: JobId,
  drop: Plan<Done>,
): Effect.Effect<Done, JobNotFound | KvError> => {
  /** Under the lock: the job may have moved on since the timer was read. */
  const ifStillSet = (plan: () => Plan<Done> | null): Either.Either<Plan<Done>> =>
    Either.right(jobs.kv.get("timers", timer.key) === undefined ? answer("nothing") : (plan() ?? drop))
  switch (timer.kind) {
    case "deadline":
      return jobs.change(id, (job, now) =>
        ifStillSet(() => {
          const expired = Transition.expire(job, now)
          return expired && jobs.move(job, expired, now, { expired })
        }),
      )
    case "backoff":
      return jobs.change(id, (job, now) =>
        ifStillSet(() => {
          const ready = Transition.ready(job, now)
          return ready && jobs.move(job, ready, now, { ready })
        }),
      )
    case "retention":
      return jobs.changeAll(id, (job, now) =>
        ifStillSet(() => (isTerminal(job.status) ? jobs.erase<Done>(job, now, "removed") : null)),
      )
  }
}
