/**
 * One service at a time owns the keys of a prefix: it holds a lease, which it renews while it lives. Without it nothing
 * is read or written, so that a service that was held up for too long starts nothing beside its successor.
 */
import { Clock, Effect, Either, Schedule, type Scope } from "effect"
import { KvError } from "../Kv.js"
import { decodeProcess, isAlive, ownProcess } from "../Process.js"
import { type Client, command, evaluate } from "./Connection.js"
import type { Keys } from "./Keys.js"
import * as Scripts from "./Scripts.js"

/** How long a lease lasts without being renewed: how long a service on another machine is waited for. */
export const leaseMillis = 15_000
const renewMillis = 4000

export interface Lease {
  /** Fails while the lease is not this process's. */
  readonly check: Effect.Effect<void, KvError>
}

/** Takes the lease for as long as the scope lasts. Waits only for an owner whose end cannot be seen from here. */
export const acquire = (client: Client, keys: Keys): Effect.Effect<Lease, KvError, Scope.Scope> =>
  Effect.gen(function* () {
    const own = yield* Effect.sync(() => JSON.stringify({ ...ownProcess(), at: Math.random() }))
    yield* take(client, keys, own)
    let heldUntil = (yield* Clock.currentTimeMillis) + leaseMillis

    const renew = Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      if ((yield* evaluate(client, Scripts.renew, [keys.owner], [own, leaseMillis])) === 1)
        heldUntil = now + leaseMillis
      else if (heldUntil > 0) {
        heldUntil = 0
        yield* Effect.logError("another service has taken the jobs: this one does nothing more with them")
      }
    }).pipe(
      Effect.catchAll((error) => Effect.logWarning(`the lease was not renewed: ${error.detail}`)),
      Effect.annotateLogs({ module: "Store" }),
      Effect.delay(renewMillis),
      Effect.repeat(Schedule.forever),
    )
    yield* Effect.forkScoped(renew)
    yield* Effect.addFinalizer(() =>
      // Who comes next finds out by itself that this one is gone.
      Effect.catchAll(Effect.asVoid(evaluate(client, Scripts.release, [keys.owner], [own])), (error) =>
        Effect.logWarning(`the lease was not handed back: ${error.detail}`),
      ),
    )
    return {
      check: Effect.flatMap(Clock.currentTimeMillis, (now) =>
        now < heldUntil
          ? Effect.void
          : new KvError({ reason: "unavailable", detail: "this service does not hold the lease of its jobs" }),
      ),
    }
  })

const take = (client: Client, keys: Keys, own: string): Effect.Effect<void, KvError> =>
  Effect.gen(function* () {
    let first: string | null = null
    for (;;) {
      const found = yield* command(() => client.get(keys.owner))
      const owner = found === null ? null : Either.getOrNull(decodeProcess(found))
      const process = ownProcess()
      // Another boot is another machine, or this one before: both may be.
      const alive = owner === null ? false : owner.bootId === process.bootId ? isAlive(owner, process) : null
      if (alive === false) {
        if ((yield* evaluate(client, Scripts.take, [keys.owner], [found ?? "", own, leaseMillis])) === 1) return
        continue
      }
      const left = yield* command(() => client.pttl(keys.owner))
      // A lease that is longer than before was renewed: its owner lives.
      const renewed = first === found && left > leaseMillis - renewMillis
      if (alive === true || renewed) {
        return yield* new KvError({
          reason: "unavailable",
          detail: `the jobs under this prefix are in use by process ${owner?.pid}; stop it, or set OFFLOAD_REDIS_PREFIX`,
        })
      }
      if (first === null) yield* Effect.logInfo("waiting for the lease of a service that may have ended")
      first = found
      yield* Effect.sleep(renewMillis + 1000)
    }
  })
