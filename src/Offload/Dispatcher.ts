/**
 * Moves jobs from the store to daemon fibers: the contract, and the dispatcher of one process. That one forks as many
 * jobs of a resource as the resource has permits, in the order in which the store queues them, and leaves the rest in
 * the store: a queue of any length costs nothing here. `BullMq.ts` is the dispatcher of many processes.
 */
import { Clock, Context, Effect, Layer } from "effect"
import type { JobId } from "../Job.js"
import type { OffloadConfig } from "../OffloadConfig.js"
import { Store, type StoreError, type Turns } from "../Store.js"
import type { Webhook } from "../Webhook.js"
import { admits, choose } from "./Choose.js"
import { type Candidate, type Lane, Lanes } from "./Lanes.js"
import { Outcomes } from "./Outcomes.js"
import { Permits } from "./Permits.js"
import type { Spool, SpoolError } from "./Spool.js"
import type { Worker } from "./Worker.js"

/** What a dispatcher is made of. */
export type Needs = Store | Spool | Outcomes | Permits | Worker | Webhook | OffloadConfig

/** How many callers' turns are remembered, of a resource. */
const maxTurns = 10_000

/** Notes a turn. Who had the oldest of too many is taken for one that had none: it is before the others either way. */
const took = (turns: Map<string, number>, caller: string, turn: number): void => {
  turns.delete(caller)
  turns.set(caller, turn)
  const [oldest] = turns.keys()
  if (turns.size > maxTurns && oldest !== undefined) turns.delete(oldest)
}

/** Lets the jobs go that wait because of a refusal, however many there are: for who ends a hold by hand. */
export const releaseAll = (
  store: Store["Type"],
  resource: string,
  from?: string | undefined,
): Effect.Effect<void, StoreError> =>
  Effect.flatMap(store.release({ resource, cursor: from }), ({ cursor }) =>
    cursor === null ? Effect.void : releaseAll(store, resource, cursor),
  )

export class Dispatcher extends Context.Tag("effect-offload/Dispatcher")<
  Dispatcher,
  {
    /**
     * Forks what the permits of a resource allow. A store that fails is asked again at the next tick, so that this
     * itself cannot fail. Uninterruptible: a caller that goes away between saving and forking changes nothing.
     */
    readonly feed: (resource: string) => Effect.Effect<void>
    /** Whether a job that has come could make `feed` do something at `now`. */
    readonly isHungry: (resource: string, now: number) => boolean
    /** Interrupts the fiber that carries a job, if there is one here. Does not wait for its end. */
    readonly interrupt: (id: JobId) => Effect.Effect<void>
    /**
     * Forks nothing more, lets running attempts go on for the time of `OFFLOAD_DRAIN_SECONDS`, then interrupts them,
     * which puts their jobs back in the queue. Ends when no fiber is left. A second call waits for the first.
     */
    readonly drain: Effect.Effect<void>
    /**
     * Changes the ceiling of a resource, or ends what holds it, for all who share it. The end of a hold is that of the
     * backoffs of refused jobs too.
     */
    readonly change: (
      resource: string,
      to: { readonly permits?: number | undefined; readonly heldUntil?: null | undefined },
    ) => Effect.Effect<void, StoreError>
    /** When each caller had its last turn at a resource. */
    readonly turns: (resource: string) => Turns
    /** Whether a drain has begun. */
    readonly isDraining: () => boolean
    /** Why this process takes no work, though it is to; `null` where it does. */
    readonly trouble: Effect.Effect<string | null>
  }
>() {
  static readonly layer: Layer.Layer<Dispatcher, StoreError | SpoolError, Needs> = Layer.scoped(
    Dispatcher,
    Effect.gen(function* () {
      const store = yield* Store
      const outcomes = yield* Outcomes
      const permits = yield* Permits
      const lanes = yield* Lanes

      /** When each caller had its last turn. */
      const last = new Map([...lanes.all.keys()].map((name) => [name, new Map<string, number>()]))
      /** One at a time forks jobs, or two of them would fork the same one, or one beside another that is to be alone. */
      const lock = Effect.unsafeMakeSemaphore(1)
      let turns = 0

      const turnsOf = (name: string) => last.get(name) ?? new Map<string, number>()

      /** Whether nothing of a resource may be begun at `now`, whatever runs. */
      const isShut = ({ name }: Lane, now: number): boolean => {
        const usage = permits.usage(name)
        return lanes.isDraining() || usage === null || usage.permits === 0 || (usage.heldUntil ?? 0) > now
      }

      /** How many more jobs of a resource may be begun at `now`. */
      const free = (lane: Lane, now: number): number =>
        isShut(lane, now) ? 0 : Math.max(0, (permits.usage(lane.name)?.permits ?? 0) - lane.active.size)

      const begin = (lane: Lane, id: JobId, candidate: Candidate) =>
        Effect.suspend(() => {
          took(turnsOf(lane.name), candidate.caller, ++turns)
          return lanes.carry(lane, id, candidate)
        })

      /** Begins the first suspect that waits, if nothing runs; forgets those that need not wait any more. */
      const forkSuspect = (lane: Lane): Effect.Effect<void, StoreError> =>
        Effect.gen(function* () {
          if (lane.suspects.size === 0) return
          const waiting = yield* Effect.filter(lane.suspects, (id) =>
            Effect.map(lanes.look(id), ({ isSuspect }) => isSuspect && !lane.carried.has(id)),
          )
          yield* lanes.letWait(lane, waiting)
          const room = free(lane, yield* Clock.currentTimeMillis)
          for (const id of room > 0 ? waiting : []) {
            const candidate = yield* lanes.look(id)
            if (!admits(lane.limits, lanes.running(lane), candidate) || !(yield* lanes.mayBegin(candidate))) continue
            yield* begin(lane, id, candidate)
            return
          }
        })

      const forkNext = (lane: Lane): Effect.Effect<void, StoreError> =>
        Effect.gen(function* () {
          const room = free(lane, yield* Clock.currentTimeMillis)
          if (room === 0) return
          const { carried, limits, name, suspects } = lane
          const next = yield* choose({
            room,
            limits,
            running: lanes.running(lane),
            // A carried job stays in the queue until its fiber has claimed it.
            isTaken: (id) => carried.has(id) || suspects.has(id) || outcomes.unreadable.has(id),
            taken: carried.size + suspects.size + outcomes.unreadable.size,
            queued: (limit, skip) => store.queued(name, limit, { last: turnsOf(name), skip }),
            ownerOf: lanes.ownerOf,
          })
          let passed = 0
          for (const id of next.keys()) {
            const candidate = yield* lanes.look(id)
            if (yield* lanes.mayBegin(candidate)) yield* begin(lane, id, candidate)
            else if (candidate.isSuspect) {
              yield* lanes.letWait(lane, [...suspects, id])
              passed++
              // It is the process's turn to begin nothing, or something runs alone.
            } else return
          }
          // In place of those that wait to be alone, others may begin.
          if (passed > 0) yield* forkNext(lane)
        })

      const unlessStoreIsDown = (lane: Lane, forked: Effect.Effect<void, StoreError>) =>
        Effect.catchTag(forked, "StoreError", (error) =>
          Effect.logWarning("queue not read: the store is out of reach").pipe(
            Effect.annotateLogs({ module: "Offload", resource: lane.name, error: error.message }),
          ),
        )

      const isHungry = (resource: string, now: number): boolean => {
        const lane = lanes.all.get(resource)
        return lane !== undefined && free(lane, now) > 0
      }

      const feed = (resource: string): Effect.Effect<void> =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          const lane = lanes.all.get(resource)
          return lane === undefined || !(isHungry(resource, now) || lane.suspects.size > 0)
            ? Effect.void
            : Effect.uninterruptible(lock.withPermits(1)(unlessStoreIsDown(lane, forkAll(lane))))
        })

      const forkAll = (lane: Lane): Effect.Effect<void, StoreError> =>
        Effect.flatMap(Clock.currentTimeMillis, (now) =>
          // Where nothing of its resource may begin, a suspect must not keep others waiting.
          isShut(lane, now) ? lanes.letWait(lane, []) : Effect.zipRight(forkSuspect(lane), forkNext(lane)),
        )

      yield* lanes.run({ feed, onFree: feed, tick: Effect.void, stop: Effect.void })

      return {
        feed,
        isHungry,
        drain: lanes.drain,
        interrupt: lanes.interrupt,
        isDraining: lanes.isDraining,
        trouble: Effect.succeed(null),
        turns: (resource) => ({ last: turnsOf(resource) }),
        change: (resource, to) =>
          Effect.gen(function* () {
            if (to.permits !== undefined) yield* permits.resize(resource, to.permits)
            if (to.heldUntil !== null) return
            yield* permits.hold(resource, null)
            yield* releaseAll(store, resource)
          }),
      }
    }),
  ).pipe(Layer.provide(Lanes.layer))
}
