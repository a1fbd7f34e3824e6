/** What every keeper of allowances promises. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Either, Exit, type Layer, Scope } from "effect"
import { Allowances, type Bucket, type Taken } from "../../src/Http/Allowances.js"
import type { StoreError } from "../../src/Offload.js"

const take = (caller: string, bucket: Bucket) =>
  Effect.flatMap(Allowances, ({ take }) =>
    Effect.async<Taken, StoreError>((resume) =>
      take(caller, bucket, Date.now(), (taken) =>
        resume(Either.match(taken, { onLeft: Effect.fail, onRight: Effect.succeed })),
      ),
    ),
  )

/** A place that is left when its scope is closed. */
const enter = (caller: string, all: number, perCaller: number | null = null) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const { enter } = yield* Allowances
    const isIn = yield* Scope.extend(enter(caller, { all, perCaller }), scope)
    return { isIn, leave: Scope.close(scope, Exit.void) }
  })

const slow: Bucket = { capacity: 3, perSecond: 0.01 }

export const suite = (name: string, layer: () => Layer.Layer<Allowances, StoreError>) => {
  describe(name, () => {
    it.live("gives a caller as many tokens as its bucket holds, and others theirs", () =>
      Effect.gen(function* () {
        const taken = yield* Effect.all(
          Array.from({ length: 8 }, () => take("ada", slow)),
          { concurrency: "unbounded" },
        )
        expect(taken.filter(({ isAllowed }) => isAllowed)).toHaveLength(3)
        expect(Math.max(...taken.map(({ tokens }) => tokens))).toBeCloseTo(2, 0)
        expect((yield* take("bob", slow)).isAllowed).toBe(true)
      }).pipe(Effect.provide(layer())),
    )

    it.live("fills a bucket with time, and never above what it holds", () =>
      Effect.gen(function* () {
        const quick: Bucket = { capacity: 2, perSecond: 20 }
        yield* Effect.all([take("eve", quick), take("eve", quick)])
        yield* Effect.repeat(take("eve", quick), { until: ({ isAllowed }) => isAllowed })
        yield* Effect.sleep(400)
        expect((yield* take("eve", quick)).tokens).toBeLessThanOrEqual(1)
      }).pipe(Effect.provide(layer())),
    )

    it.live("gives no more places than there are, however many ask at once", () =>
      Effect.gen(function* () {
        const asked = yield* Effect.all(
          Array.from({ length: 30 }, (_, n) => enter(`caller-${n % 3}`, 10, 4)),
          { concurrency: "unbounded" },
        )
        expect(asked.filter(({ isIn }) => isIn)).toHaveLength(10)
        yield* Effect.all(asked.map(({ leave }) => leave))
        const own = yield* Effect.all(Array.from({ length: 10 }, () => enter("caller-0", 10, 4)))
        expect(own.filter(({ isIn }) => isIn)).toHaveLength(4)
        yield* Effect.all(own.map(({ leave }) => leave))
      }).pipe(Effect.provide(layer())),
    )

    it.live("has a place again when one is left: by an end, by a failure, by an interruption", () =>
      Effect.gen(function* () {
        const { enter: inScope } = yield* Allowances
        const inside = inScope("ada", { all: 1, perCaller: 1 })
        const within = <A, E>(use: Effect.Effect<A, E>) => Effect.scoped(Effect.zipLeft(inside, use))
        expect(yield* within(Effect.void)).toBe(true)
        expect(yield* Effect.exit(within(Effect.fail("no")))).toEqual(Exit.fail("no"))
        yield* Effect.timeoutOption(within(Effect.never), 200)
        expect(yield* within(Effect.void)).toBe(true)
        // One that got none has none to leave.
        const first = yield* enter("ada", 1)
        const second = yield* enter("ada", 1)
        yield* second.leave
        expect((yield* enter("ada", 1)).isIn).toBe(false)
        yield* first.leave
        expect((yield* enter("ada", 1)).isIn).toBe(true)
      }).pipe(Effect.provide(layer())),
    )
  })
}
