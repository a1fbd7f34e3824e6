/** Saves a job, once for each idempotency key, and within the limits of its queue. */
import { Clock, Effect } from "effect"
import * as Transition from "../../Job/Transition.js"
import { JobId } from "../../Job.js"
import { IdempotencyConflict, QueueFull, type Submitted } from "../../Store.js"
import { KvError } from "../Kv.js"
import * as Record from "../Record.js"
import { idempotencyMillis } from "../Submission.js"
import type { Limits } from "../Tally.js"
import { evaluate } from "./Connection.js"
import type { Jobs } from "./Jobs.js"
import { countField } from "./Keys.js"
import * as Scripts from "./Scripts.js"
import { around, placeholder } from "./Sequence.js"

type Failure = IdempotencyConflict | QueueFull | KvError

export const create = (jobs: Jobs, submission: Transition.NewJob, limits: Limits): Effect.Effect<Submitted, Failure> =>
  Effect.gen(function* () {
    const { client, keys } = jobs
    const { caller, id, idempotency, input, resource } = submission
    const now = yield* Clock.currentTimeMillis
    const job = Transition.create(submission, placeholder, now)
    const key = idempotency === null ? "" : Record.idempotencyKey(caller, idempotency.key)

    const reply = yield* evaluate(
      client,
      Scripts.create,
      [
        keys.idempotency(key),
        keys.job(id),
        keys.log(id),
        keys.counts,
        keys.queued,
        keys.index(job),
        keys.ready(resource, caller),
        keys.heads(resource),
        keys.due("deadline"),
        keys.sequence,
      ],
      [
        id,
        ...around(job),
        JSON.stringify(input),
        Record.statusEvent(job, now),
        countField(resource, "queued"),
        caller,
        limits.maxQueued,
        limits.maxQueuedPerCaller ?? "",
        job.deadlineAt === null ? "" : Math.ceil(job.deadlineAt),
        keys.channel,
        idempotency === null ? "" : "1",
        keys.job(""),
        idempotency?.fingerprint ?? "",
        now,
        idempotencyMillis,
        countField(resource, "running"),
      ],
    )
    const [verdict, first, second, third] = Array.isArray(reply) ? reply.map(String) : []
    switch (verdict) {
      case "created":
        return {
          job: { ...job, sequence: Number(first) },
          created: true,
          counts: { queued: Number(second), running: Number(third) },
        }
      case "exists":
        return yield* saved(jobs, id)
      case "used":
        return yield* used(jobs, submission, first ?? "", second ?? "")
      case "full": {
        const scope = first === "caller" ? "caller" : "resource"
        const limit = scope === "caller" ? (limits.maxQueuedPerCaller ?? 0) : limits.maxQueued
        return yield* new QueueFull({ resource, scope, limit })
      }
      default:
        return yield* new KvError({ reason: "unavailable", detail: `Redis gave no answer that is known: ${verdict}` })
    }
  })

/** The key was used before, for the job `first`. */
const used = (
  jobs: Jobs,
  { idempotency }: Transition.NewJob,
  first: string,
  fingerprint: string,
): Effect.Effect<Submitted, Failure> => {
  const id = JobId.make(first)
  return idempotency?.fingerprint === fingerprint
    ? saved(jobs, id)
    : new IdempotencyConflict({ key: idempotency?.key ?? "", id })
}

const saved = (jobs: Jobs, id: JobId): Effect.Effect<Submitted, KvError> =>
  jobs.read(id).pipe(
    Effect.map((job) => ({ job, created: false })),
    // It was removed between the two.
    Effect.catchTag(
      "JobNotFound",
      () => new KvError({ reason: "unavailable", detail: `job '${id}' was just removed` }),
    ),
  )
