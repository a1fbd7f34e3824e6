/**
 * BullMQ, as far as it is used: a queue for each resource, which carries ids of jobs alone, for as many of them as may
 * run soon; its global concurrency is the ceiling of all processes together. A place in `active` is a permit of the
 * fleet: it is held until the one that works on the id gives it back, or has been silent for the time of a lease.
 */
import { type Job as BullJob, Queue, WaitingError, Worker } from "bullmq"
import { Effect, FiberSet, Schema, type Scope } from "effect"
import { JobId } from "../../Job.js"
import type { Client } from "../../Redis.js"
import { StoreError } from "../../Store.js"
import * as Listening from "./Listening.js"

/** What becomes of an id that a worker took: it is done with, or goes back to be taken by another one. */
export type Taken = "done" | "back"

export interface Options {
  /** A connection of its own for each queue and each worker; waits for a reconnection where there is none. */
  readonly connect: () => Client
  /** The same, for what waits: no command of it may have a time limit. */
  readonly connectToWait: () => Client
  readonly prefix: string
  readonly leaseMillis: number
  /** Something that BullMQ tells on its own account, such as that its connection is lost. */
  readonly onError: (error: Error) => void
}

export interface Engine {
  /** The ids that wait or are being worked on, and the ceiling that BullMQ knows of: none in a Redis that was emptied. */
  readonly look: Effect.Effect<{ readonly ids: ReadonlyArray<JobId>; readonly ceiling: number | null }, StoreError>
  /** Adds ids; one that is present stays as it is. */
  readonly add: (ids: ReadonlyArray<JobId>) => Effect.Effect<void, StoreError>
  /** The ceiling of the fleet. */
  readonly setCeiling: (permits: number) => Effect.Effect<void, StoreError>
  /**
   * Takes ids, at most so many at a time, and holds the place of each until its `take` has ended. The end of the scope
   * interrupts them: their ids go back.
   */
  readonly work: (
    permits: number,
    take: (id: JobId) => Effect.Effect<Taken>,
    onDone: () => void,
  ) => Effect.Effect<Work, never, Scope.Scope>
}

/** A worker of this process. */
export interface Work {
  readonly setPermits: (permits: number) => void
  /** Takes nothing more; what it was fetching may still come. */
  readonly pause: Effect.Effect<void>
  /** Takes again. */
  readonly resume: Effect.Effect<void>
  /** For how long it has had room, and no answer of Redis to a look for an id, in milliseconds; 0 while it is paused. */
  readonly deafMillis: () => number
}

const isJobId = Schema.is(JobId)

/** A second loss is none of the id's fault. */
const neverFailed = 1_000_000

/** How long an idle worker listens before it looks again, in seconds. */
const drainDelay = 1

const failed = (operation: string, detail: string, cause?: unknown) =>
  new StoreError({ operation, reason: "unavailable", detail: `BullMQ did not do it: ${detail}`, cause })

const call = <A>(what: string, run: () => Promise<A>): Effect.Effect<A, StoreError> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) => failed(what, cause instanceof Error ? cause.message : String(cause), cause),
  })

/** What ends on its own account at the end of a process; what it did not do in the time of a lease, the lease does. */
const quietly = (run: () => Promise<void>, leaseMillis: number): Effect.Effect<void> =>
  // A release waits for what it races, if that cannot be interrupted.
  Effect.interruptible(call("close", run)).pipe(
    Effect.timeoutFail({
      duration: leaseMillis,
      onTimeout: () => failed("close", "it took longer than a lease"),
    }),
    Effect.catchAll((error) =>
      Effect.logWarning("BullMQ was left as it is").pipe(
        Effect.annotateLogs({ module: "Offload", error: error.message }),
      ),
    ),
  )

/** Names of its queues must have no colon, those of resources may have any character. */
const queueName = (resource: string): string => encodeURIComponent(resource)

export const make = (resource: string, options: Options): Effect.Effect<Engine, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { connectToWait, leaseMillis, onError, prefix } = options
    const name = queueName(resource)
    const connect = (make: () => Client) =>
      Effect.acquireRelease(Effect.sync(make), (client) => Effect.sync(() => client.disconnect()))
    const connected = yield* connect(options.connect)
    const queue = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const queue = new Queue(name, {
          prefix,
          connection: connected,
          skipVersionCheck: true,
          // What it has done with is no more: the store knows what became of it.
          defaultJobOptions: { removeOnComplete: true, removeOnFail: true, stackTraceLimit: 0 },
          streams: { events: { maxLen: 1 } },
        })
        queue.on("error", onError)
        return queue
      }),
      (queue) => quietly(() => queue.close(), leaseMillis),
    )

    return {
      look: Effect.map(
        // All of them: by default BullMQ gives the first two of each kind.
        call("look", () => Promise.all([queue.getRanges(["wait", "active"], 0, -1), queue.getGlobalConcurrency()])),
        ([ids, ceiling]) => ({ ids: ids.filter((id) => isJobId(id)), ceiling }),
      ),
      add: (ids) =>
        ids.length === 0
          ? Effect.void
          : Effect.asVoid(
              call("add", () => queue.addBulk(ids.map((id) => ({ name: "job", data: {}, opts: { jobId: id } })))),
            ),
      setCeiling: (permits) => Effect.asVoid(call("setCeiling", () => queue.setGlobalConcurrency(permits))),
      work: (permits, take, onDone) =>
        Effect.gen(function* () {
          const own = yield* connect(options.connect)
          const blocking = yield* connect(connectToWait)
          let held = 0
          let lastLook = performance.now()
          const onLook = () => {
            lastLook = performance.now()
          }
          const taken = async (id: JobId): Promise<Taken> => {
            held++
            try {
              return await run(take(id))
            } catch (error) {
              onError(error instanceof Error ? error : new Error(String(error)))
              return "back"
            } finally {
              held--
              onLook()
            }
          }
          const process = async (job: BullJob, token?: string): Promise<void> => {
            if (!isJobId(job.id) || (await taken(job.id)) === "done") return
            await job.moveToWait(token)
            throw new WaitingError()
          }
          const worker = yield* Effect.acquireRelease(
            Effect.sync(() => {
              const worker = new Worker(
                name,
                process,
                {
                  autorun: false,
                  prefix,
                  connection: own,
                  concurrency: permits,
                  drainDelay,
                  lockDuration: leaseMillis,
                  lockRenewTime: leaseMillis / 5,
                  stalledInterval: leaseMillis / 5,
                  maxStalledCount: neverFailed,
                  runRetryDelay: leaseMillis / 10,
                },
                Listening.make({ prefix, client: own, blocking, waitSeconds: drainDelay, onLook }),
              )
              worker.on("error", onError)
              worker.on("completed", onDone)
              return worker
            }),
            (worker) => quietly(() => worker.close(), leaseMillis),
          )
          // A worker brings what it was fetching when it was told to stop, and does not end before that was taken, or
          // put back: so these fibers end before it does, and what comes after them is refused at once.
          const run = yield* FiberSet.makeRuntimePromise<never, Taken, never>()
          yield* Effect.sync(() => {
            void worker.run().catch(onError)
          })
          return {
            setPermits: (permits) => {
              worker.concurrency = permits
            },
            pause: quietly(() => worker.pause(true), leaseMillis),
            resume: Effect.zipRight(
              Effect.sync(onLook),
              quietly(() => worker.resume(), leaseMillis),
            ),
            deafMillis: () => (worker.isPaused() || held >= worker.concurrency ? 0 : performance.now() - lastLook),
          }
        }),
    }
  })
