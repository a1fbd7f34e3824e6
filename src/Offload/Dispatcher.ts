/**
 * Moves jobs from the store to daemon fibers. It forks as many jobs of a resource as the resource has permits, in the
 * order in which the store queues them, and leaves the rest in the store: a queue of any length costs nothing here.
 */
import { Cause, Clock, Context, Effect, Exit, Fiber, Layer, Queue } from "effect"
import { deliveries, type JobId } from "../Job.js"
import { OffloadConfig } from "../OffloadConfig.js"
import { Store, type StoreError, type Turns } from "../Store.js"
import type { Webhook } from "../Webhook.js"
import { settleDelivery } from "./Delivery.js"
import { logExpired } from "./JobLog.js"
import { Outcomes } from "./Outcomes.js"
import { Permits } from "./Permits.js"
import { rescue, rescueJob } from "./Rescue.js"
import { fork, type Settled } from "./Settle.js"
import type { Spool, SpoolError } from "./Spool.js"
import { Worker } from "./Worker.js"

/** How often the store is asked what is due, and whether a queued job lies there that nothing carries. */
const tickMillis = 500

/** How long after the grace of its processes an attempt may still wait for the store, while the service drains. */
const hurryMillis = 3000

export class Dispatcher extends Context.Tag("effect-offload/Dispatcher")<
  Dispatcher,
  {
    /**
     * Forks what the permits of a resource allow. A store that fails is asked again at the next tick, so that this
     * itself cannot fail. Uninterruptible: a caller that goes away between saving and forking changes nothing.
     */
    readonly feed: (resource: string) => Effect.Effect<void>
    /** Interrupts the fiber that carries a job, if there is one. Does not wait for its end. */
    readonly interrupt: (id: JobId) => Effect.Effect<void>
    /**
     * Forks nothing more, lets running attempts go on for the time of `OFFLOAD_DRAIN_SECONDS`, then interrupts them,
     * which puts their jobs back in the queue. Ends when no fiber is left. A second call waits for the first.
     */
    readonly drain: Effect.Effect<void>
    /** When each caller had its last turn at a resource. */
    readonly turns: (resource: string) => Turns
    /** Whether a drain has begun. */
    readonly isDraining: () => boolean
  }
>() {
  static readonly layer: Layer.Layer<
    Dispatcher,
    StoreError | SpoolError,
    Store | Spool | Outcomes | Permits | Worker | Webhook | OffloadConfig
  > = Layer.scoped(
    Dispatcher,
    Effect.gen(function* () {
      const context = yield* Effect.context<Needs>()
      const store = yield* Store
      const outcomes = yield* Outcomes
      const permits = yield* Permits
      const worker = yield* Worker
      const config = yield* OffloadConfig

      const lane = (name: string, settle: Lane["settle"]): [string, Lane] => [
        name,
        { name, settle, carried: new Map(), last: new Map(), turn: Effect.unsafeMakeSemaphore(1) },
      ]
      const lanes = new Map<string, Lane>(
        config.resources.map((resource) => lane(resource.name, (id) => worker.settle({ id, resource }))),
      )
      // Without permits there is no secret: deliveries stay queued until there is one.
      if (permits.resources.includes(deliveries)) lanes.set(...lane(deliveries, settleDelivery))
      const ended = yield* Queue.unbounded<Ended>()
      let draining = false
      /** Counts the turns that callers have had. */
      let turns = 0

      const carry = ({ carried, name, settle }: Lane, id: JobId, caller: string) =>
        fork(settle(id)).pipe(
          // The fiber outlives whoever submitted the job, and must not hold on to the request that it came with.
          Effect.mapInputContext((_: Context.Context<never>) => context),
          Effect.tap((fiber) => {
            carried.set(id, { fiber, caller })
            fiber.addObserver((exit) => {
              carried.delete(id)
              ended.unsafeOffer({ resource: name, id, exit })
            })
          }),
        )

      /** How many more jobs of a resource may be begun at `now`. */
      const free = ({ carried, name }: Lane, now: number): number => {
        const usage = permits.usage(name)
        if (draining || usage === null || (usage.heldUntil ?? 0) > now) return 0
        return Math.max(0, usage.permits - carried.size)
      }

      const maxPerCaller = config.maxRunningPerCaller ?? Number.POSITIVE_INFINITY

      /** The callers of a lane that may begin nothing more for now. */
      const busy = ({ carried }: Lane): ReadonlySet<string> => {
        const callers = [...carried.values()].map(({ caller }) => caller)
        return new Set(callers.filter((each) => callers.filter((caller) => caller === each).length >= maxPerCaller))
      }

      const forkNext = (lane: Lane): Effect.Effect<void, StoreError> =>
        Effect.gen(function* () {
          const room = free(lane, yield* Clock.currentTimeMillis)
          if (room === 0) return
          const { carried, name } = lane
          // A carried job stays in the queue until its fiber has claimed it.
          const ids = yield* store.queued(name, room + carried.size + outcomes.unreadable.size, {
            last: lane.last,
            skip: busy(lane),
          })
          const next = ids.filter((id) => !carried.has(id) && !outcomes.unreadable.has(id)).slice(0, room)
          let passed = 0
          for (const id of next) {
            const caller = yield* callerOf(id)
            if (busy(lane).has(caller)) {
              passed++
              continue
            }
            lane.last.set(caller, ++turns)
            yield* carry(lane, id, caller)
          }
          // In place of those whose caller has enough by now, others may begin.
          if (passed > 0) yield* forkNext(lane)
        })

      // What is no more, or cannot be read, is nobody's: its claim finds out.
      const callerOf = (id: JobId): Effect.Effect<string, StoreError> =>
        store.get(id).pipe(
          Effect.map(({ caller }) => caller),
          Effect.catchTags({
            JobNotFound: () => Effect.succeed(""),
            StoreError: (error) => (error.reason === "malformed" ? Effect.succeed("") : Effect.fail(error)),
          }),
        )

      const unlessStoreIsDown = (lane: Lane, forked: Effect.Effect<void, StoreError>) =>
        Effect.catchTag(forked, "StoreError", (error) =>
          Effect.logWarning("queue not read: the store is out of reach").pipe(
            Effect.annotateLogs({ module: "Offload", resource: lane.name, error: error.message }),
          ),
        )

      const feed = (resource: string): Effect.Effect<void> =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          const lane = lanes.get(resource)
          return lane === undefined || free(lane, now) === 0
            ? Effect.void
            : // One at a time, or two of them would fork the same job.
              Effect.uninterruptible(lane.turn.withPermits(1)(unlessStoreIsDown(lane, forkNext(lane))))
        })

      const next = ({ exit, id, resource }: Ended) =>
        Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause)
          ? Effect.zipRight(abandoned(id, exit.cause), feedAfter(resource))
          : feedAfter(resource)

      /** A permit is free again, and the job that had it may have left a delivery. */
      const feedAfter = (resource: string) =>
        resource === deliveries ? feed(resource) : Effect.zipRight(feed(resource), feed(deliveries))

      // Settling never fails; should it die of a bug, the job must not stay `running` for ever.
      const abandoned = (id: JobId, cause: Cause.Cause<never>) =>
        Effect.logError("an attempt was lost to a bug of this program", cause).pipe(
          Effect.zipRight(store.get(id)),
          Effect.flatMap((job) => (job.status === "running" ? rescueJob(job) : Effect.void)),
          Effect.catchAll((error) =>
            Effect.logError("its job stays as it is until the next start").pipe(
              Effect.annotateLogs({ error: error.message }),
            ),
          ),
          Effect.annotateLogs({ module: "Offload", jobId: id }),
          Effect.provide(context),
        )

      const tick = store.advance({ retentionMillis: config.retention }).pipe(
        Effect.tap(({ expired }) => Effect.forEach(expired, logExpired)),
        Effect.catchTag("StoreError", (error) =>
          Effect.logWarning("nothing that is due was done: the store is out of reach").pipe(
            Effect.annotateLogs({ module: "Offload", error: error.message }),
          ),
        ),
        // Also finds what nothing carries, whatever the reason.
        Effect.zipRight(Effect.forEach(permits.resources, feed, { discard: true })),
      )

      const fibers = () => [...lanes.values()].flatMap((lane) => [...lane.carried.values()].map(({ fiber }) => fiber))

      const drainNow = Effect.gen(function* () {
        const running = fibers()
        yield* Effect.logInfo("draining").pipe(
          Effect.annotateLogs({ running: running.length, graceMillis: config.drain }),
        )
        yield* Effect.timeoutOption(Fiber.awaitAll(running), config.drain)
        const late = fibers()
        yield* Effect.forEach(late, Fiber.interruptFork, { discard: true })
        yield* Effect.timeoutOption(Fiber.awaitAll(late), config.killGrace + hurryMillis)
        yield* outcomes.hurry
        yield* Fiber.awaitAll(late)
        yield* Effect.logInfo("drained").pipe(
          Effect.annotateLogs({ finished: running.length - late.length, handedBack: late.length }),
        )
      }).pipe(Effect.annotateLogs({ module: "Offload" }))

      // It has a fiber of its own, since an interruption of its caller must not cut it short.
      const asked = yield* Effect.makeLatch(false)
      const drainer = yield* Effect.forkScoped(Effect.zipRight(asked.await, drainNow))
      const drain = Effect.suspend(() => {
        draining = true
        return Effect.zipRight(asked.open, Effect.asVoid(Fiber.await(drainer)))
      })

      const forgotten = Effect.flatMap(store.counts, (counts) =>
        Effect.forEach(
          [...counts].filter(([name, { queued }]) => queued > 0 && !lanes.has(name)),
          ([resource, { queued }]) =>
            Effect.logWarning("jobs stay queued: their resource is not configured").pipe(
              Effect.annotateLogs({ module: "Offload", resource, queued }),
            ),
          { discard: true },
        ),
      )

      yield* rescue
      yield* forgotten
      yield* tick
      yield* Effect.forkScoped(Effect.forever(Effect.flatMap(Queue.take(ended), next)))
      yield* Effect.forkScoped(Effect.forever(Effect.zipRight(Effect.sleep(tickMillis), tick)))
      // Last, so that the fibers above feed nothing while it drains, and first of all to be released.
      yield* Effect.addFinalizer(() => drain)

      return {
        feed,
        drain,
        isDraining: () => draining,
        turns: (resource) => ({ last: lanes.get(resource)?.last ?? new Map() }),
        interrupt: (id) =>
          Effect.suspend(() => {
            const found = [...lanes.values()].map((lane) => lane.carried.get(id)).find((each) => each !== undefined)
            return found === undefined ? Effect.void : Fiber.interruptFork(found.fiber)
          }),
      }
    }),
  )
}

/** A fiber that carried a job, when it is no more. */
interface Ended {
  readonly resource: string
  readonly id: JobId
  readonly exit: Exit.Exit<void>
}

/** What the work of jobs needs, beside what a `Worker` has put into it. */
type Needs = Outcomes | Store | Permits | Webhook

/** What a resource's jobs are made of, the fibers that carry them, and whose turn it is to fork more of them. */
interface Lane {
  readonly name: string
  readonly settle: (id: JobId) => Settled<Needs>
  readonly carried: Map<JobId, { readonly fiber: Fiber.RuntimeFiber<void>; readonly caller: string }>
  /** When each caller had its last turn: there are as many as keys were given out. */
  readonly last: Map<string, number>
  readonly turn: Effect.Semaphore
}
