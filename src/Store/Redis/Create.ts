/** Saves a job, once for each idempotency key, and within the limits of its queue. */
import { Effect, Either } from "effect"
import * as Transition from "../../Job/Transition.js"
import { IdempotencyConflict, JobGone, QueueFull, type Submitted } from "../../Store.js"
import type { Done } from "../Commit.js"
import { jobIds } from "../Jobs.js"
import { KvError, readNow } from "../Kv.js"
import type { Refusal } from "../Named.js"
import * as Record from "../Record.js"
import { storeFull } from "../Submission.js"
import type { Limits } from "../Tally.js"
import { evaluate, evaluateThen } from "./Connection.js"
import type { Jobs } from "./Jobs.js"
import { countField } from "./Keys.js"
import * as Scripts from "./Scripts.js"
import { around, placeholder } from "./Sequence.js"

type Failure = Refusal | KvError

/** Saves a submission. */
export const create = (jobs: Jobs, submission: Transition.NewJob, limits: Limits): Effect.Effect<Submitted, Failure> =>
  Effect.clockWith((clock) => {
    const { args, conclude, keys } = request(jobs, submission, limits, clock.unsafeCurrentTimeMillis())
    return Effect.flatMap(evaluate(jobs.client, Scripts.create, keys, args), conclude)
  })

/** The same without a fiber. */
export const begin = (
  jobs: Jobs,
  submission: Transition.NewJob,
  limits: Limits,
  now: number,
  done: Done<Submitted, Refusal>,
): boolean => {
  const { args, conclude, keys } = request(jobs, submission, limits, now)
  evaluateThen((reply) => done(Either.flatMap(reply, conclude)), jobs.client, Scripts.create, keys, args)
  return true
}

/** What the script is given, and what its reply means. */
const request = ({ keys }: Jobs, submission: Transition.NewJob, limits: Limits, now: number) => {
  const { caller, id, idempotency, input, resource } = submission
  const job = Transition.create(submission, placeholder, now)
  const key = idempotency === null ? "" : Record.idempotencyKey(caller, idempotency.key)
  return {
    keys: [
      keys.idempotency(key),
      keys.job(id),
      keys.counts,
      keys.queued,
      keys.index(job),
      keys.ready(resource, caller),
      keys.heads(resource),
      keys.due("deadline"),
      keys.sequence,
      keys.due("retention"),
      keys.bytes,
      keys.allBytes,
    ],
    args: [
      id,
      ...around(job),
      JSON.stringify(input),
      countField(resource, "queued"),
      caller,
      limits.maxQueued,
      limits.maxQueuedPerCaller ?? "",
      job.deadlineAt === null ? "" : Math.ceil(job.deadlineAt),
      idempotency === null ? "" : "1",
      keys.job(""),
      idempotency?.fingerprint ?? "",
      now,
      Record.idempotencyMillis,
      countField(resource, "running"),
      limits.maxBytesPerCaller ?? "",
      limits.maxBytes ?? "",
    ],
    conclude: (reply: unknown): Either.Either<Submitted, Failure> => {
      const [verdict, first = "", second = "", third = ""] = Array.isArray(reply) ? reply.map(String) : []
      switch (verdict) {
        case "created":
          return Either.right({
            job: { ...job, sequence: Number(first) },
            created: true,
            counts: { queued: Number(second), running: Number(third) },
          })
        case "exists":
          return saved(id, first)
        case "used":
          return used(idempotency, second, first, third)
        case "full": {
          const scope = first === "caller" ? "caller" : "resource"
          const limit = scope === "caller" ? (limits.maxQueuedPerCaller ?? 0) : limits.maxQueued
          return Either.left(new QueueFull({ resource, scope, limit }))
        }
        case "large":
          return Either.left(storeFull(first === "caller" ? "caller" : "store", limits))
        default:
          return Either.left(
            new KvError({ reason: "unavailable", detail: `Redis gave no answer that is known: ${verdict}` }),
          )
      }
    },
  }
}

/** What a use of the key says: its job, its record where there still is one, and its fingerprint. */
const used = (
  idempotency: Transition.Idempotency | null,
  text: string,
  record: string,
  fingerprint: string,
): Either.Either<Submitted, Failure> => {
  const key = idempotency?.key ?? ""
  const [id] = jobIds([text])
  if (id === undefined)
    return Either.left(new KvError({ reason: "malformed", detail: "the use of a key names no job" }))
  if (idempotency === null || !Transition.isSame(idempotency, fingerprint)) {
    return Either.left(new IdempotencyConflict({ key, id }))
  }
  return record === "" ? Either.left(new JobGone({ key, id })) : saved(id, record)
}

/** A job that was saved before. */
const saved = (id: string, record: string): Either.Either<Submitted, KvError> =>
  Either.map(
    readNow(() => Record.decodeJob(id, record)),
    (job) => ({ job, created: false }),
  )
