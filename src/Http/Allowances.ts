/**
 * What callers may have of what all processes of a service share: tokens, which come back with time, and places, which
 * come back when they are left. The contract, and what keeps them in one process; `Allowances/Redis.ts` keeps them for a
 * fleet.
 */
import { Context, Effect, Either, Layer, type Scope } from "effect"
import type { StoreError } from "../Offload.js"

/** A bucket: it holds so many tokens at most, and is filled evenly. */
export interface Bucket {
  readonly capacity: number
  readonly perSecond: number
}

/** Whether there was a token, and how many are left, fractions included. */
export interface Taken {
  readonly isAllowed: boolean
  readonly tokens: number
}

/** How many places there are. */
export interface Places {
  readonly all: number
  /** `null`: a caller may have all of them. */
  readonly perCaller: number | null
}

export class Allowances extends Context.Tag("effect-offload/Allowances")<
  Allowances,
  {
    /** Takes a token of a caller at `now`, the milliseconds since the epoch, and calls back once. */
    readonly take: (
      caller: string,
      bucket: Bucket,
      now: number,
      done: (taken: Either.Either<Taken, StoreError>) => void,
    ) => void
    /**
     * Takes a place for a caller, and leaves it when the scope ends, however it ends; `false` where there is none. To
     * look and to take are one step. A process that dies leaves its places within a minute.
     */
    readonly enter: (caller: string, places: Places) => Effect.Effect<boolean, StoreError, Scope.Scope>
  }
>() {
  static readonly layerMemory: Layer.Layer<Allowances> = Layer.sync(Allowances, () => {
    /** When a caller had so many tokens. */
    const buckets = new Map<string, { readonly tokens: number; readonly at: number }>()
    const entered = new Map<string, number>()
    let all = 0

    return {
      take: (caller, { capacity, perSecond }, now, done) => {
        const { at, tokens } = buckets.get(caller) ?? { at: now, tokens: capacity }
        const filled = Math.min(capacity, tokens + (Math.max(0, now - at) / 1000) * perSecond)
        const isAllowed = filled >= 1
        const left = isAllowed ? filled - 1 : filled
        forgetFull(buckets, now, (capacity / perSecond) * 1000)
        buckets.delete(caller)
        buckets.set(caller, { at: now, tokens: left })
        done(Either.right({ isAllowed, tokens: left }))
      },
      enter: (caller, places) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const own = entered.get(caller) ?? 0
            if (all >= places.all || own >= (places.perCaller ?? Number.POSITIVE_INFINITY)) return false
            all++
            entered.set(caller, own + 1)
            return true
          }),
          (isIn) =>
            Effect.sync(() => {
              if (!isIn) return
              const own = (entered.get(caller) ?? 0) - 1
              all--
              if (own > 0) entered.set(caller, own)
              else entered.delete(caller)
            }),
        ),
    }
  })
}

/** A bucket that nobody took of for so long is full, and so is one that is not there. The oldest come first. */
const forgetFull = (buckets: Map<string, { readonly at: number }>, now: number, millis: number): void => {
  for (const [caller, { at }] of buckets) {
    if (now - at < millis) return
    buckets.delete(caller)
  }
}
