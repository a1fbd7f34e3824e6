/** What is due: backoffs that end, deadlines that pass, jobs whose retention ends. */
import { Clock, Effect, Either } from "effect"
import * as Transition from "../../Job/Transition.js"
import { isTerminal, type JobId } from "../../Job.js"
import { type Advanced, JobNotTerminal, type Released } from "../../Store.js"
import { type Done, type ReleaseOptions, summary } from "../Due.js"
import { jobIds } from "../Jobs.js"
import type { KvError } from "../Kv.js"
import { command } from "./Connection.js"
import type { Jobs, Plan } from "./Jobs.js"
import type { Due } from "./Keys.js"
import { keep, move } from "./Plan.js"

const concurrency = 50

export const advance = (
  jobs: Jobs,
  { limit, retentionMillis }: { readonly retentionMillis: number; readonly limit: number },
): Effect.Effect<Advanced, KvError> =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    // Deadlines first: a job whose deadline has passed is not ready, whatever its backoff says.
    const due = [
      ...(yield* until(jobs, "deadline", now, limit)),
      ...(yield* until(jobs, "backoff", now, limit)),
      ...(yield* until(jobs, "retention", now - retentionMillis - 1, limit)),
    ].slice(0, limit)
    const done = yield* Effect.forEach(due, (each) => Effect.either(end(jobs, each)), { concurrency })
    return yield* summary(done)
  })

/** See `Store/Due.ts`. The cursor is that of `ZSCAN`, which misses nothing. */
export const release = (jobs: Jobs, { cursor = "0", limit, to }: ReleaseOptions): Effect.Effect<Released, KvError> =>
  Effect.gen(function* () {
    const [next, found] = yield* command(() => jobs.client.zscan(jobs.keys.due("backoff"), cursor, "COUNT", limit))
    const now = yield* Clock.currentTimeMillis
    const waiting = yield* jobs.readAll(jobIds(found.filter((_, at) => at % 2 === 0)))
    const released = yield* Effect.forEach(
      waiting.filter((job) => to(job, now) !== null),
      ({ id }) => releaseOne(jobs, id, to),
      { concurrency },
    )
    return { released: released.filter((is) => is).length, cursor: next === "0" ? null : next }
  })

const releaseOne = (jobs: Jobs, id: JobId, to: ReleaseOptions["to"]): Effect.Effect<boolean, KvError> =>
  jobs
    .change(id, (job, now): Either.Either<Plan<boolean>> => {
      const released = to(job, now)
      return Either.right(released === null ? keep(false) : move(job, released, now, true))
    })
    .pipe(Effect.catchTag("JobNotFound", () => Effect.succeed(false)))

interface Timer {
  readonly kind: Due
  readonly id: JobId
}

const until = (
  { client, keys }: Jobs,
  kind: Due,
  at: number,
  limit: number,
): Effect.Effect<ReadonlyArray<Timer>, KvError> =>
  Effect.map(
    command(() => client.zrangebyscore(keys.due(kind), "-inf", at, "LIMIT", 0, limit)),
    (ids) => jobIds(ids).map((id) => ({ kind, id })),
  )

const end = (jobs: Jobs, timer: Timer): Effect.Effect<Done, KvError> => {
  // A job that is no more, or that cannot be read, is due to nothing, and must not come up again at each call.
  const forget = Effect.as(
    command(() => jobs.client.zrem(jobs.keys.due(timer.kind), timer.id)),
    "nothing" as const,
  )
  return byKind(jobs, timer).pipe(
    Effect.catchTag("JobNotFound", () => forget),
    Effect.catchTag("KvError", (error) => (error.reason === "malformed" ? forget : Effect.fail(error))),
  )
}

const byKind = (jobs: Jobs, { id, kind }: Timer) => {
  const nothing: Plan<Done> = keep("nothing")
  switch (kind) {
    case "deadline":
      return jobs.change(id, (job, now): Either.Either<Plan<Done>> => {
        const expired = Transition.expire(job, now)
        return Either.right(expired === null ? nothing : move(job, expired, now, { expired }))
      })
    case "backoff":
      return jobs.change(id, (job, now): Either.Either<Plan<Done>> => {
        const ready = Transition.ready(job, now)
        return Either.right(ready === null ? nothing : move(job, ready, now, { ready }))
      })
    case "retention":
      return Effect.as(
        jobs.remove(id, (job) => (isTerminal(job.status) ? null : new JobNotTerminal({ id }))),
        "removed" as const,
      ).pipe(Effect.catchTag("JobNotTerminal", () => Effect.succeed("nothing" as const)))
  }
}
