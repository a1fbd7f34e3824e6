/**
 * What this process carries: for each resource the daemon fibers of its jobs, from their fork to their end. Which jobs
 * those are, and when, is decided by the `Dispatcher`.
 */
import { Cause, Context, Effect, Exit, Fiber, Layer, Queue, Schedule, type Scope } from "effect"
import { isSuspect } from "../Job/Transition.js"
import { deliveries, type Job, type JobId } from "../Job.js"
import { OffloadConfig } from "../OffloadConfig.js"
import { Store, type StoreError } from "../Store.js"
import type { Webhook } from "../Webhook.js"
import { type Company, mayBegin, RunsAlone } from "./Alone.js"
import type { Owner, OwnerLimits } from "./Choose.js"
import { hostOfDelivery, settleDelivery } from "./Delivery.js"
import { Hurry } from "./Hurry.js"
import { logDraining, logExpired, logInterrupting } from "./JobLog.js"
import { Outcomes } from "./Outcomes.js"
import { Permits } from "./Permits.js"
import { rescue, rescueJob } from "./Rescue.js"
import * as SetBack from "./SetBack.js"
import { fork, type Settled } from "./Settle.js"
import type { Spool, SpoolError } from "./Spool.js"
import { Worker } from "./Worker.js"

/** How often the store is asked what is due, and whether a job lies there that nothing carries. */
const tickMillis = 500

/** How long after the grace of its processes an attempt may still wait for the store, while the service drains. */
const hurryMillis = 3000

/** How many jobs' owners are remembered. */
const maxOwners = 1000

/** How often a store that is down is told again that this process drains, in milliseconds. */
const noteMillis = 500

/** What the work of jobs needs, beside what a `Worker` has put into it. */
type Needs = Outcomes | Store | Permits | Webhook

/** A job that this process has forked. */
export interface Carried {
  readonly fiber: Fiber.RuntimeFiber<void>
  readonly owner: Owner
}

/** What a resource's jobs are made of, and the fibers that carry them. */
export interface Lane {
  readonly name: string
  readonly settle: (id: JobId) => Settled<Needs>
  /** How many of its jobs may run at once of a caller, and to a host. */
  readonly limits: OwnerLimits
  readonly carried: Map<JobId, Carried>
  /** Of the carried jobs, those that have a permit or wait for one. */
  readonly active: Set<JobId>
  /** The suspects that had their turn here, and wait until nothing else runs. */
  readonly suspects: Set<JobId>
}

/** What a dispatcher has to know of a queued job. */
export interface Candidate extends Owner {
  /** Whether it is ready, and must run alone. */
  readonly isSuspect: boolean
}

/** How a dispatcher brings jobs to the lanes. */
export interface Feeding {
  /** Forks what may be forked now, or has it done. */
  readonly feed: (resource: string) => Effect.Effect<void>
  /** Done when a permit is given back, while the outcome of its job is being stored; then the lane is fed. */
  readonly onFree: (resource: string) => Effect.Effect<void>
  /** Done at each tick, before the lanes are fed. */
  readonly tick: Effect.Effect<void>
  /** Done when a drain begins: nothing more is to be forked. */
  readonly stop: Effect.Effect<void>
}

export class Lanes extends Context.Tag("effect-offload/Lanes")<
  Lanes,
  {
    readonly all: ReadonlyMap<string, Lane>
    /** Forks a job, behind a permit of its resource. Where it may begin is to be asked before, in the same step. */
    readonly carry: (lane: Lane, id: JobId, candidate: Candidate) => Effect.Effect<Fiber.RuntimeFiber<void>>
    /** Whether a job may begin now, beside what this process carries: see `Alone.ts`. */
    readonly mayBegin: (candidate: Pick<Candidate, "isSuspect">) => Effect.Effect<boolean>
    /** Says which suspects of a lane wait for the others to end: from now on these have to take turns with them. */
    readonly letWait: (lane: Lane, suspects: Iterable<JobId>) => Effect.Effect<void>
    /** The owners of the jobs of a lane that have a permit or wait for one. */
    readonly running: (lane: Lane) => ReadonlyArray<Owner>
    /** Whose job it is: this never changes. Of one that is gone, or cannot be read, nobody's: its claim finds out. */
    readonly ownerOf: (id: JobId) => Effect.Effect<Owner, StoreError>
    readonly look: (id: JobId) => Effect.Effect<Candidate, StoreError>
    /** Interrupts the fiber that carries a job, if there is one. Does not wait for its end. */
    readonly interrupt: (id: JobId) => Effect.Effect<void>
    /** See `Dispatcher.drain`. */
    readonly drain: Effect.Effect<void>
    readonly isDraining: () => boolean
    /** Rescues what an earlier run left, then feeds the lanes, and drains them when the scope ends. */
    readonly run: (
      feeding: Feeding,
    ) => Effect.Effect<void, StoreError | SpoolError, Spool | Outcomes | Store | Worker | Scope.Scope>
  }
>() {
  static readonly layer: Layer.Layer<Lanes, never, Store | Outcomes | Permits | Worker | Webhook | OffloadConfig> =
    Layer.effect(
      Lanes,
      Effect.gen(function* () {
        const context = yield* Effect.context<Needs>()
        const store = yield* Store
        const outcomes = yield* Outcomes
        const permits = yield* Permits
        const worker = yield* Worker
        const config = yield* OffloadConfig
        const hurry = yield* Hurry
        const heedClock = yield* SetBack.make

        const lane = (name: string, settle: Lane["settle"], limits: OwnerLimits): [string, Lane] => [
          name,
          { name, settle, limits, carried: new Map(), active: new Set(), suspects: new Set() },
        ]
        const most = (limit: number | null) => limit ?? Number.POSITIVE_INFINITY
        const jobLimits = { perCaller: most(config.maxRunningPerCaller), perHost: Number.POSITIVE_INFINITY }
        const all = new Map<string, Lane>(
          config.resources.map((resource) => lane(resource.name, (id) => worker.settle({ id, resource }), jobLimits)),
        )
        // Without permits there is no secret: deliveries stay queued until there is one.
        if (permits.resources.includes(deliveries)) {
          const perCaller = most(config.webhookPermitsPerCaller)
          all.set(...lane(deliveries, settleDelivery, { perCaller, perHost: most(config.webhookPermitsPerHost) }))
        }
        const changes = yield* Queue.unbounded<Change>()
        const asked = yield* Effect.makeLatch(false)
        const drained = yield* Effect.makeLatch(false)
        let draining = false
        /** The job that runs alone. */
        let alone: JobId | null = null
        let waitingSince: number | null = null

        const company = (): Company => ({
          carried: [...all.values()].reduce((sum, { carried }) => sum + carried.size, 0),
          isAlone: alone !== null,
          waitingSince,
        })

        const letWait: Lanes["Type"]["letWait"] = ({ suspects }, ids) =>
          Effect.map(SetBack.monotonicMillis, (now) => {
            const next = [...ids]
            suspects.clear()
            for (const id of next) suspects.add(id)
            const isWaiting = [...all.values()].some(({ suspects }) => suspects.size > 0)
            waitingSince = isWaiting ? (waitingSince ?? now) : null
          })

        const waitNoMore = (lane: Lane, id: JobId) =>
          lane.suspects.has(id)
            ? letWait(
                lane,
                [...lane.suspects].filter((each) => each !== id),
              )
            : Effect.void

        const carry = (lane: Lane, id: JobId, owner: Candidate) => {
          const { isSuspect } = owner
          const { active, carried, name, settle } = lane
          const onFree = () => {
            active.delete(id)
            changes.unsafeOffer({ _tag: "Free", resource: name })
          }
          return fork(settle(id), onFree).pipe(
            // The fiber outlives whoever submitted the job, and must not hold on to the request that it came with.
            Effect.mapInputContext((_: Context.Context<never>) => Context.add(context, RunsAlone, isSuspect)),
            Effect.tap((fiber) => {
              carried.set(id, { fiber, owner })
              active.add(id)
              if (isSuspect) alone = id
              fiber.addObserver((exit) => {
                carried.delete(id)
                active.delete(id)
                changes.unsafeOffer({ _tag: "Ended", resource: name, id, exit, wasAlone: alone === id })
                if (alone === id) alone = null
              })
            }),
            Effect.zipLeft(Effect.suspend(() => waitNoMore(lane, id))),
          )
        }

        const running = ({ active, carried }: Lane): ReadonlyArray<Owner> =>
          [...active].map((id) => carried.get(id)?.owner ?? nobody)

        /** The owner of a job never changes: one that has to wait is looked up once. */
        const owners = new Map<JobId, Owner>()

        const look = (id: JobId): Effect.Effect<Candidate, StoreError> =>
          store.get(id).pipe(
            Effect.map(candidate),
            Effect.catchTags({
              JobNotFound: () => Effect.succeed(nobody),
              StoreError: (error) => (error.reason === "malformed" ? Effect.succeed(nobody) : Effect.fail(error)),
            }),
          )

        const ownerOf = (id: JobId): Effect.Effect<Owner, StoreError> =>
          Effect.suspend(() => {
            const known = owners.get(id)
            if (known !== undefined) return Effect.succeed(known)
            return Effect.map(look(id), (owner) => {
              for (const oldest of owners.keys()) {
                if (owners.size < maxOwners) break
                owners.delete(oldest)
              }
              if (owner !== nobody) owners.set(id, owner)
              return owner
            })
          })

        const isCarried = (id: JobId) => [...all.values()].some(({ carried }) => carried.has(id))

        const fibers = () => [...all.values()].flatMap(({ carried }) => [...carried.values()].map(({ fiber }) => fiber))

        const advance = Effect.flatMap(store.advance({ retentionMillis: config.retention }), ({ expired }) =>
          Effect.forEach(expired, logExpired, { discard: true }),
        )

        // While it drains, an outcome may wait in the spool of an attempt that nothing carries any more.
        const rescueOrphans = Effect.suspend(() =>
          draining
            ? Effect.void
            : Effect.flatMap(store.orphans(isCarried), (orphans) =>
                Effect.forEach(orphans, rescueJob, { discard: true }),
              ),
        ).pipe(Effect.provide(context))

        const due = Effect.all([heedClock, advance, rescueOrphans], { discard: true }).pipe(
          Effect.catchTag("StoreError", (error) =>
            Effect.logWarning("nothing that is due was done: the store is out of reach").pipe(
              Effect.annotateLogs({ module: "Offload", error: error.message }),
            ),
          ),
        )

        // Nothing waits for it for long: a store that is down must not use up the time that running attempts have.
        const note = store.drain.pipe(
          Effect.catchAll((error) =>
            Effect.logWarning("drain not noted in the store yet: attempts that are killed now become orphans").pipe(
              Effect.annotateLogs({ error: error.message }),
              Effect.zipRight(Effect.retry(store.drain, Schedule.spaced(noteMillis))),
            ),
          ),
        )

        const drainNow = (stop: Effect.Effect<void>) =>
          Effect.gen(function* () {
            const noting = yield* Effect.fork(Effect.interruptible(note))
            yield* stop
            yield* Effect.timeoutOption(Fiber.await(noting), noteMillis)
            const running = fibers()
            yield* logDraining(running.length, config.drain)
            yield* Effect.raceFirst(Effect.timeoutOption(Fiber.awaitAll(running), config.drain), hurry)
            const late = fibers()
            if (late.length > 0) yield* logInterrupting(late.length, config.killGrace)
            yield* Effect.forEach(late, Fiber.interruptFork, { discard: true })
            yield* Effect.timeoutOption(Fiber.awaitAll(late), config.killGrace + hurryMillis)
            yield* outcomes.hurry
            yield* Fiber.awaitAll(late)
            yield* Fiber.interrupt(noting)
            yield* Effect.logInfo("drained").pipe(
              Effect.annotateLogs({ finished: running.length - late.length, handedBack: late.length }),
            )
          }).pipe(Effect.annotateLogs({ module: "Offload" }), Effect.ensuring(drained.open))

        const drain = Effect.suspend(() => {
          draining = true
          return Effect.zipRight(asked.open, drained.await)
        })

        const forgotten = Effect.flatMap(store.counts, (counts) =>
          Effect.forEach(
            [...counts].filter(([name, { queued }]) => queued > 0 && !all.has(name)),
            ([resource, { queued }]) =>
              Effect.logWarning("jobs stay queued: their resource is not configured").pipe(
                Effect.annotateLogs({ module: "Offload", resource, queued }),
              ),
            { discard: true },
          ),
        )

        return {
          all,
          carry,
          mayBegin: ({ isSuspect }) =>
            Effect.map(SetBack.monotonicMillis, (now) => mayBegin(isSuspect, company(), now)),
          letWait,
          running,
          ownerOf,
          look,
          drain,
          isDraining: () => draining,
          interrupt: (id) =>
            Effect.suspend(() => {
              const found = [...all.values()].map(({ carried }) => carried.get(id)).find((each) => each !== undefined)
              return found === undefined ? Effect.void : Fiber.interruptFork(found.fiber)
            }),
          run: ({ feed, onFree, stop, tick: before }) =>
            Effect.gen(function* () {
              const tick = Effect.all([due, before, Effect.forEach([...all.keys()], (name) => feed(name))], {
                discard: true,
              })
              const next = (change: Change) =>
                change._tag === "Free" ? onFree(change.resource) : Effect.zipRight(feedAfter(change), after(change))
              /** What runs alone, and what waits for that, keeps the other resources waiting too. */
              const feedAfter = ({ resource, wasAlone }: Ended) =>
                wasAlone || waitingSince !== null
                  ? Effect.forEach([...all.keys()], feed, { discard: true })
                  : feed(resource)
              /** The job may have left a delivery. */
              const after = ({ exit, id, resource }: Ended) =>
                Effect.zipRight(
                  Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause) ? lost(id, exit.cause) : Effect.void,
                  resource === deliveries ? Effect.void : feed(deliveries),
                )

              yield* rescue
              yield* forgotten
              yield* tick
              // It has a fiber of its own, since an interruption of who asks for it must not cut it short.
              yield* Effect.forkScoped(Effect.zipRight(asked.await, drainNow(stop)))
              yield* Effect.forkScoped(Effect.forever(Effect.flatMap(Queue.take(changes), next)))
              yield* Effect.forkScoped(Effect.forever(Effect.zipRight(Effect.sleep(tickMillis), tick)))
              // Last, so that the fibers above feed nothing while it drains, and first of all to be released.
              yield* Effect.addFinalizer(() => drain)
            }),
        }
      }),
    )
}

/** What lets other jobs begin: a permit that is given back, and a fiber that carried a job, when it is no more. */
type Change = Ended | { readonly _tag: "Free"; readonly resource: string }

interface Ended {
  readonly _tag: "Ended"
  readonly resource: string
  readonly id: JobId
  readonly exit: Exit.Exit<void>
  readonly wasAlone: boolean
}

const nobody: Candidate = { caller: "", host: null, isSuspect: false }

/** Of a queued job, or one that was. */
export const candidate = (job: Job): Candidate => ({
  caller: job.caller,
  host: hostOfDelivery(job),
  isSuspect: job.status === "queued" && job.retryAt === null && isSuspect(job),
})

/** Settling never fails; should it die of a bug, its job is an orphan, which the next tick finds. */
const lost = (id: JobId, cause: Cause.Cause<never>) =>
  Effect.logError("an attempt was lost to a bug of this program", cause).pipe(
    Effect.annotateLogs({ module: "Offload", jobId: id }),
  )
