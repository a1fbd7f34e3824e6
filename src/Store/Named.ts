/** What every operation of a store has beside what it does: its name in errors, and its time. */
import { Effect, Either } from "effect"
import type { NewJob } from "../Job/Transition.js"
import { observe } from "../Metrics.js"
import {
  type Create,
  type CreateError,
  type Limits as CreateLimits,
  StoreError,
  StoreFull,
  type Submitted,
} from "../Store.js"
import type { Done } from "./Commit.js"
import { KvError } from "./Kv.js"
import type { Limits } from "./Tally.js"

const toStoreError = (operation: string, { cause, detail, full, reason, unmade }: KvError): StoreError =>
  new StoreError({ operation, reason, detail, cause, unmade, full })

/** Tells how long the operation took that begins now. */
const stopwatch = (operation: string): (() => void) => {
  // Of the machine and not of Effect's clock: how long the disk takes is no matter of a clock that is under test.
  const since = performance.now()
  return () => observe("offload_store_seconds", { operation }, (performance.now() - since) / 1000)
}

/** Gives an error of the backend the name of the operation. */
export const failing =
  (operation: string) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, StoreError | Exclude<E, Extract<E, KvError>>, R> =>
    Effect.catchIf(
      self,
      (error): error is Extract<E, KvError> => error instanceof KvError,
      (error) => Effect.fail(toStoreError(operation, error)),
    )

/** The same, and times it, unless it is interrupted. One step of a fiber: every operation of a store goes through it. */
export const named =
  (operation: string) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, StoreError | Exclude<E, Extract<E, KvError>>, R> =>
    Effect.suspend(() => {
      const took = stopwatch(operation)
      return Effect.matchEffect(failing(operation)(self), {
        onFailure: (error) => {
          took()
          return Effect.fail(error)
        },
        onSuccess: (value) => {
          took()
          return Effect.succeed(value)
        },
      })
    })

/** Why a backend does not save a job, beside `KvError`. */
export type Refusal = Exclude<CreateError, StoreError>

/** Saving a job, as a backend does it with and without a fiber, with its name and its time. */
export const namedCreate = (
  create: (job: NewJob, limits: Limits) => Effect.Effect<Submitted, Refusal | KvError>,
  begin: (job: NewJob, limits: Limits, now: number, done: Done<Submitted, Refusal>) => boolean,
): Create =>
  Object.assign(
    (job: NewJob, options: CreateLimits) =>
      create(job, limitsOf(options)).pipe(
        Effect.mapError((error) => (error instanceof KvError && error.full === true ? machineFull : error)),
        named("create"),
      ),
    {
      begin: ((job, options, now, done) => {
        const took = stopwatch("create")
        return begin(job, limitsOf(options), now, (result) => {
          took()
          done(Either.mapLeft(result, (error) => (error instanceof KvError ? refusalOf(error) : error)))
        })
      }) satisfies Create["begin"],
    },
  )

const machineFull = new StoreFull({ scope: "machine", limitBytes: null })

const refusalOf = (error: KvError): StoreFull | StoreError =>
  error.full === true ? machineFull : toStoreError("create", error)

const limitsOf = ({
  maxBytes = null,
  maxBytesPerCaller = null,
  maxQueued,
  maxQueuedPerCaller = null,
}: CreateLimits): Limits => ({ maxQueued, maxQueuedPerCaller, maxBytes, maxBytesPerCaller })
