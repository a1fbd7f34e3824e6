/**
 * The dispatcher of many processes: BullMQ brings ids of jobs to them, within one ceiling for all, and each forks the
 * same settled effect as the dispatcher of one process does. The store stays the one truth: an id that BullMQ brings is
 * looked up, and one that it lacks is brought to it, at each tick.
 */
import { Clock, Effect, Fiber, FiberSet, Layer, Queue, Redacted, Schedule } from "effect"
import { isTerminal, type Job, type JobId } from "../Job.js"
import { OffloadConfig } from "../OffloadConfig.js"
import * as Redis from "../Redis.js"
import { type JobNotFound, Store, StoreError } from "../Store.js"
import * as Deaf from "./BullMq/Deaf.js"
import * as Engine from "./BullMq/Engine.js"
import * as Guard from "./BullMq/Guard.js"
import * as Shared from "./BullMq/Shared.js"
import { choose } from "./Choose.js"
import { Dispatcher, type Needs, releaseAll } from "./Dispatcher.js"
import { candidate, type Lane, Lanes } from "./Lanes.js"
import { Outcomes } from "./Outcomes.js"
import { Permits } from "./Permits.js"
import type { SpoolError } from "./Spool.js"

/** How many permits' worth of ids BullMQ is given: those that run, and as many that are next. */
const windows = 2

/** How long one that waits for another process's attempt waits before it looks again, in milliseconds. */
const lookMillis = 1000

/** How long a place is kept with a job that may not begin beside another one, before it goes back, in milliseconds. */
const backMillis = 200

/** How long BullMQ waits for the answer to a command, through an outage of Redis too, in milliseconds. */
const commandMillis = 5000

const done: Effect.Effect<Engine.Taken> = Effect.succeed("done")
const back: Effect.Effect<Engine.Taken> = Effect.succeed("back")

interface Busy {
  readonly lane: Lane
  readonly engine: Engine.Engine
  readonly work: Engine.Work | null
  /** A request to feed the lane that has not been met yet. */
  readonly asked: Queue.Queue<void>
  /** What was last known to all. */
  known: Shared.Known
  turns: ReadonlyMap<string, number>
  /** BullMQ had no room for another id when it was last looked at: whoever makes room says so. */
  full: boolean
}

const make = Effect.gen(function* () {
  const config = yield* OffloadConfig
  const store = yield* Store
  const outcomes = yield* Outcomes
  const permits = yield* Permits
  const lanes = yield* Lanes

  const { address, client } = yield* Effect.gen(function* () {
    const address = yield* Redis.parse(Redacted.value(config.redisUrl))
    return { address, client: yield* Redis.open(address, { commandTimeout: Redis.commandMillis }) }
  }).pipe(
    Effect.catchTag(
      "RedisError",
      ({ cause, detail }) => new StoreError({ operation: "open", reason: "unavailable", detail, cause }),
    ),
  )
  const shared = Shared.make(client, config.redisPrefix)
  const told = yield* Queue.sliding<Error>(1)
  /** One at a time begins a job, or it would begin beside another one that is to be alone. */
  const lock = Effect.unsafeMakeSemaphore(1)
  /** What waits for BullMQ to pause or go on. */
  const switching = yield* FiberSet.make<void>()
  let isPaused = false

  const patient = { maxRetriesPerRequest: null, enableOfflineQueue: true }
  const engineOptions: Engine.Options = {
    connect: () => address.make({ ...patient, commandTimeout: commandMillis }),
    connectToWait: () => address.make({ ...patient, enableAutoPipelining: false }),
    prefix: `${config.redisPrefix}bull`,
    leaseMillis: config.lease,
    onError: (error) => told.unsafeOffer(error),
  }

  /** Who has a place among the ids that BullMQ has, where places are counted. */
  const ownersOf = ({ limits }: Lane, ids: ReadonlyArray<JobId>) =>
    Math.min(limits.perCaller, limits.perHost) === Number.POSITIVE_INFINITY
      ? Effect.succeed([])
      : Effect.forEach(ids, lanes.ownerOf, { concurrency: "unbounded" })

  const isHeld = (lane: Lane) =>
    Effect.map(Clock.currentTimeMillis, (now) => (permits.usage(lane.name)?.heldUntil ?? 0) > now)

  /** Gives BullMQ the next ids, as far as there is room for them. */
  const feedNow = (busy: Busy): Effect.Effect<void, StoreError> =>
    Effect.gen(function* () {
      const { engine, lane } = busy
      if (lanes.isDraining() || (yield* isHeld(lane))) return
      const { ceiling, ids: present } = yield* engine.look
      // Before anything is brought that could pass it.
      if (ceiling !== busy.known.permits) yield* engine.setCeiling(busy.known.permits)
      const room = windows * busy.known.permits - present.length
      busy.full = room <= 0
      if (busy.full) return
      busy.turns = yield* shared.turns(lane.name)
      const taken = new Set<string>(present)
      const next = yield* choose({
        room,
        limits: lane.limits,
        running: yield* ownersOf(lane, present),
        isTaken: (id) => taken.has(id) || outcomes.unreadable.has(id),
        taken: present.length + outcomes.unreadable.size,
        queued: (limit, skip) => store.queued(lane.name, limit, { last: busy.turns, skip }),
        ownerOf: lanes.ownerOf,
      })
      const now = yield* Clock.currentTimeMillis
      // Two turns of one moment are in the order in which they were given.
      const took = new Map([...next.values()].map(({ caller }, at) => [caller, now + at / 1000]))
      yield* engine.add([...next.keys()])
      yield* shared.tookTurns(lane.name, took)
    })

  const unlessRedisIsDown = (lane: Lane, effect: Effect.Effect<void, StoreError>) =>
    Effect.catchTag(effect, "StoreError", (error) =>
      Effect.logWarning("jobs not dispatched: Redis is out of reach").pipe(
        Effect.annotateLogs({ module: "Offload", resource: lane.name, error: error.message }),
      ),
    )

  /** What is done with an id that BullMQ brings. Its place in the ceiling is held until then. */
  const handle = (lane: Lane, id: JobId): Effect.Effect<Engine.Taken> =>
    Effect.suspend(() => {
      const carried = lane.carried.get(id)
      if (carried !== undefined) return Effect.zipRight(Fiber.await(carried.fiber), end(lane, id))
      if (lanes.isDraining()) return back
      return Effect.flatMap(store.get(id), (job) => begin(lane, job))
    }).pipe(
      Effect.catchTags({
        JobNotFound: () => done,
        StoreError: (error) =>
          error.reason === "malformed" ? done : Effect.zipRight(Effect.sleep(lookMillis), handle(lane, id)),
      }),
    )

  const begin = (lane: Lane, job: Job): Effect.Effect<Engine.Taken, StoreError | JobNotFound> =>
    Effect.gen(function* () {
      if (job.status === "running") {
        // Another process's attempt, which may have lost its place to an outage: the place is its own until it ends.
        yield* Effect.timeoutOption(store.awaitEvent(job.id, job.events), lookMillis)
        return yield* handle(lane, job.id)
      }
      if (isTerminal(job.status) || (yield* isHeld(lane))) return "done"
      const fiber = yield* carryIfMay(lane, job)
      if (fiber === null) return yield* candidate(job).isSuspect ? waitToBeAlone(lane, job.id) : makeRoom
      yield* regulate
      yield* Fiber.await(fiber)
      yield* regulate
      return yield* end(lane, job.id)
    })

  /** `null`: it may not begin beside what this node carries. */
  const carryIfMay = (lane: Lane, job: Job) =>
    lock.withPermits(1)(
      Effect.gen(function* () {
        const carried = lane.carried.get(job.id)
        if (carried !== undefined) return carried.fiber
        return (yield* lanes.mayBegin(candidate(job))) ? yield* lanes.carry(lane, job.id, candidate(job)) : null
      }),
    )

  /** The suspect keeps its place, so that the ceiling holds; the other nodes go on with the rest. */
  const waitToBeAlone = (lane: Lane, id: JobId): Effect.Effect<Engine.Taken> =>
    lanes
      .letWait(lane, [...lane.suspects, id])
      .pipe(
        Effect.zipRight(regulate),
        Effect.zipRight(Effect.timeoutOption(untilNothingRuns, lookMillis)),
        Effect.zipRight(Effect.suspend(() => handle(lane, id))),
      )

  const untilNothingRuns = Effect.repeat(lanes.mayBegin({ isSuspect: true }), {
    until: (may) => may,
    schedule: Schedule.spaced(backMillis),
  })

  const forget = (lane: Lane, id: JobId) =>
    Effect.suspend(() =>
      lanes.letWait(
        lane,
        [...lane.suspects].filter((each) => each !== id),
      ),
    )

  /** Another node begins it. This one is about to take nothing more; without a pause it would take this one again. */
  const makeRoom: Effect.Effect<Engine.Taken> = Effect.suspend(() =>
    Effect.zipRight(regulate, Effect.as(Effect.sleep(backMillis), "back" as const)),
  )

  /** Has this node take nothing while a suspect runs alone, and in the closed turns before: see `Alone.ts`. */
  const regulate = Effect.gen(function* () {
    const pauses = !(yield* lanes.mayBegin({ isSuspect: false }))
    if (pauses === isPaused || lanes.isDraining()) return
    isPaused = pauses
    for (const { work } of all.values()) {
      if (work !== null) yield* FiberSet.run(switching, pauses ? work.pause : work.resume)
    }
  })

  /**
   * Another process may have claimed the job meanwhile, which had been brought the id before, and lost its place to an
   * outage. Its attempt runs in this place then.
   */
  const end = (lane: Lane, id: JobId): Effect.Effect<Engine.Taken, StoreError | JobNotFound> =>
    Effect.flatMap(store.get(id), ({ status }) => (status === "running" ? handle(lane, id) : done))

  const join = (lane: Lane) =>
    Effect.gen(function* () {
      const configured = permits.usage(lane.name)?.permits ?? 1
      const engine = yield* Engine.make(lane.name, engineOptions)
      const before = yield* shared.read(lane.name)
      // Permits that were changed live stay as they are, until the settings are.
      const known =
        before !== null && before.configured === configured
          ? before
          : { permits: configured, configured, heldUntil: null, serviceMillis: before?.serviceMillis ?? null }
      // A Redis whose memory is full takes neither now; each tick brings them again.
      yield* unlessRedisIsDown(lane, Effect.zipRight(shared.write(lane.name, known), engine.setCeiling(known.permits)))
      yield* permits.learn(lane.name, known)
      const asked = yield* Queue.sliding<void>(1)
      const work: Engine.Work | null =
        config.role === "api"
          ? null
          : yield* engine.work(
              known.permits,
              (id) => Effect.ensuring(handle(lane, id), forget(lane, id)),
              () => asked.unsafeOffer(undefined),
            )
      const busy: Busy = { lane, engine, work, asked, known, turns: new Map(), full: false }
      return busy
    })

  /** Says what this process has learned of a resource, and learns what the others have. */
  const exchange = (busy: Busy): Effect.Effect<void, StoreError> =>
    Effect.gen(function* () {
      const { engine, known: before, lane, work } = busy
      const usage = permits.usage(lane.name)
      const found = yield* shared.read(lane.name)
      // A Redis that was emptied knows nothing.
      if (usage === null || found === null) return yield* shared.write(lane.name, before)
      const heldUntil =
        usage.heldUntil === before.heldUntil ? found.heldUntil : Math.max(usage.heldUntil ?? 0, found.heldUntil ?? 0)
      const serviceMillis = usage.serviceMillis === before.serviceMillis ? found.serviceMillis : usage.serviceMillis
      busy.known = { ...found, heldUntil, serviceMillis }
      if (heldUntil !== found.heldUntil || serviceMillis !== found.serviceMillis) {
        yield* shared.write(lane.name, { heldUntil, serviceMillis })
      }
      if (found.permits !== before.permits) {
        yield* engine.setCeiling(found.permits)
        work?.setPermits(found.permits)
      }
      yield* permits.learn(lane.name, busy.known)
    })

  const all = new Map<string, Busy>()
  for (const lane of lanes.all.values()) all.set(lane.name, yield* join(lane))
  const guard = yield* Guard.make
  const deaf = Deaf.make([...all.values()].map(({ lane, work }) => ({ resource: lane.name, work })))

  yield* Effect.forkScoped(
    Effect.forever(
      Effect.flatMap(Queue.take(told), (error) =>
        Effect.logDebug(`BullMQ: ${error.message}`).pipe(Effect.annotateLogs({ module: "Offload" })),
      ),
    ),
  )
  yield* Effect.forEach(all.values(), (busy) =>
    Effect.forkScoped(
      Effect.forever(Effect.zipRight(Queue.take(busy.asked), unlessRedisIsDown(busy.lane, feedNow(busy)))),
    ),
  )
  const feed = (resource: string) => Effect.sync(() => all.get(resource)?.asked.unsafeOffer(undefined))
  /** For a job that has come: a thousand of them look once. */
  const isHungry = (resource: string) => all.get(resource)?.full === false
  const feedIfHungry = (resource: string) => Effect.suspend(() => (isHungry(resource) ? feed(resource) : Effect.void))

  yield* lanes.run({
    feed,
    // BullMQ holds the place until the outcome is stored.
    onFree: () => Effect.void,
    tick: Effect.zipRight(
      Effect.forEach([...all.values()], (busy) => unlessRedisIsDown(busy.lane, exchange(busy)), {
        concurrency: "unbounded",
        discard: true,
      }),
      Effect.all([guard.lookAll, regulate, deaf.warn], { discard: true }),
    ),
    stop: Effect.forEach([...all.values()], ({ work }) => work?.pause ?? Effect.void, { discard: true }),
  })

  return Dispatcher.of({
    feed: feedIfHungry,
    isHungry,
    drain: lanes.drain,
    interrupt: lanes.interrupt,
    isDraining: lanes.isDraining,
    turns: (resource) => ({ last: all.get(resource)?.turns ?? new Map() }),
    trouble: deaf.trouble,
    change: (resource, to) =>
      Effect.gen(function* () {
        const busy = all.get(resource)
        if (busy === undefined) return
        const change = {
          ...(to.permits === undefined ? {} : { permits: to.permits }),
          ...(to.heldUntil === null ? { heldUntil: null } : {}),
        }
        yield* shared.write(resource, change)
        yield* busy.engine.setCeiling(to.permits ?? busy.known.permits)
        busy.known = { ...busy.known, ...change }
        busy.full = false
        busy.work?.setPermits(busy.known.permits)
        yield* permits.learn(resource, busy.known)
        if (to.heldUntil === null) yield* releaseAll(store, resource)
      }),
  })
})

/** Needs `REDIS_URL` and the store of the same Redis. */
export const layer: Layer.Layer<Dispatcher, StoreError | SpoolError, Needs> = Layer.scoped(Dispatcher, make).pipe(
  Layer.provide(Lanes.layer),
)
