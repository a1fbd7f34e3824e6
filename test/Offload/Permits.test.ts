import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, TestClock } from "effect"
import fc from "fast-check"
import { CurrentPermit, Permits } from "../../src/Offload/Permits.js"

describe("permits", () => {
  it.effect("never lets more run than there are permits, and serves those that wait in their order", () =>
    Effect.gen(function* () {
      const { usage, withPermit } = yield* Permits
      const order: Array<number> = []
      let most = 0
      const fibers = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, index) => index),
        (index) =>
          Effect.fork(
            withPermit("llm")(
              Effect.gen(function* () {
                order.push(index)
                most = Math.max(most, usage("llm")?.running ?? 0)
                yield* Effect.sleep(1000)
              }),
            ),
          ),
      )
      yield* TestClock.adjust(20_000)
      yield* Fiber.joinAll(fibers)
      expect(most).toBe(2)
      expect(order).toEqual(Array.from({ length: 20 }, (_, index) => index))
      expect(usage("llm")).toEqual({ permits: 2, running: 0, serviceMillis: 1000, heldUntil: null })
    }).pipe(Effect.provide(Permits.layer({ llm: 2 }))),
  )

  it.effect("grows at once, and shrinks as permits are given back", () =>
    Effect.gen(function* () {
      const { resize, usage, withPermit } = yield* Permits
      const running = () => usage("llm")?.running
      const go = yield* Effect.forEach([1, 2, 3, 4, 5], () => Deferred.make<void>())
      yield* Effect.forEach(go, (gate) => Effect.fork(withPermit("llm")(Deferred.await(gate))))
      yield* Effect.yieldNow()
      expect(running()).toBe(2)
      yield* resize("llm", 4)
      yield* Effect.sleep(0).pipe(Effect.fork, Effect.zipRight(TestClock.adjust(1)))
      expect(running()).toBe(4)
      yield* resize("llm", 1)
      expect(running()).toBe(4)
      for (const [index, expected] of [3, 2, 1, 1, 0].entries()) {
        const gate = go[index]
        if (gate !== undefined) yield* Deferred.succeed(gate, undefined)
        yield* TestClock.adjust(1)
        expect(running()).toBe(expected)
      }
    }).pipe(Effect.provide(Permits.layer({ llm: 2 }))),
  )

  it.effect("is passed on while its holder has something left to do, for which the next one can wait", () =>
    Effect.gen(function* () {
      const { usage, withPermit } = yield* Permits
      const left = yield* Deferred.make<void>()
      const said: Array<string> = []
      const say = (what: string) => Effect.sync(() => said.push(what))
      const first = Effect.flatMap(CurrentPermit, ({ awaitReady, passOn }) =>
        Effect.zipRight(
          Effect.zipRight(awaitReady, say("first")),
          passOn(Effect.zipRight(Effect.sleep(100), Effect.zipRight(say("rest"), Deferred.await(left)))),
        ),
      )
      const next = (name: string) =>
        Effect.flatMap(CurrentPermit, ({ awaitReady }) =>
          say(`${name} has it`).pipe(
            Effect.zipRight(awaitReady),
            Effect.zipRight(say(`${name} begins`)),
            Effect.zipRight(Effect.sleep(100)),
          ),
        )
      const fibers = [
        yield* Effect.fork(withPermit("one", () => said.push("free"))(first)),
        yield* Effect.fork(withPermit("one")(next("second"))),
        yield* Effect.fork(withPermit("one")(next("third"))),
      ]
      yield* TestClock.adjust(1000)
      expect(said).toEqual(["first", "free", "second has it", "rest"])
      expect(usage("one")).toMatchObject({ running: 1, serviceMillis: 0 })
      yield* Deferred.succeed(left, undefined)
      yield* TestClock.adjust(1000)
      yield* Fiber.joinAll(fibers)
      expect(said.slice(4)).toEqual(["second begins", "third has it", "third begins"])
      expect(usage("one")).toMatchObject({ running: 0 })
    }).pipe(Effect.provide(Permits.layer({ one: 1 }))),
  )

  it.effect("is not ready earlier because those in between were interrupted, or had nothing to do", () =>
    Effect.gen(function* () {
      const { withPermit } = yield* Permits
      const left = yield* Deferred.make<void>()
      let hasBegun = false
      const wait = Effect.flatMap(CurrentPermit, ({ awaitReady }) => awaitReady)
      const first = Effect.flatMap(CurrentPermit, ({ passOn }) => Effect.zipRight(wait, passOn(Deferred.await(left))))
      yield* Effect.fork(withPermit("one")(first))
      yield* Effect.yieldNow()
      const between = yield* Effect.fork(withPermit("one")(wait))
      yield* TestClock.adjust(1000)
      yield* Fiber.interrupt(between)
      yield* withPermit("one")(Effect.void)
      const last = yield* Effect.fork(
        withPermit("one")(
          Effect.tap(wait, () => {
            hasBegun = true
          }),
        ),
      )
      yield* TestClock.adjust(1000)
      expect(hasBegun).toBe(false)
      yield* Deferred.succeed(left, undefined)
      yield* Fiber.join(last)
      expect(hasBegun).toBe(true)
    }).pipe(Effect.provide(Permits.layer({ one: 1 }))),
  )

  it.effect("is ready again where what was left to do fails, dies or is interrupted", () =>
    Effect.gen(function* () {
      const { withPermit } = yield* Permits
      const passOn = <E>(rest: Effect.Effect<void, E>) =>
        withPermit("one")(
          Effect.flatMap(CurrentPermit, (permit) => Effect.zipRight(permit.awaitReady, permit.passOn(rest))),
        )
      for (const rest of [Effect.fail("failed"), Effect.die("died"), Effect.interrupt]) {
        yield* Effect.exit(passOn(rest))
        yield* withPermit("one")(Effect.flatMap(CurrentPermit, ({ awaitReady }) => awaitReady))
      }
    }).pipe(Effect.provide(Permits.layer({ one: 1 }))),
  )

  it("gives every permit back, whatever happens to the work and to those that wait", async () => {
    const passings = ["pass on", "pass on and fail", "interrupt when passed on"] as const
    const fate = fc.constantFrom("succeed", "fail", "die", "interrupt", "throw", "interrupt while waiting", ...passings)
    await fc.assert(
      fc.asyncProperty(fc.array(fate, { maxLength: 40 }), fc.integer({ min: 1, max: 4 }), async (fates, permits) => {
        const program = Effect.gen(function* () {
          const { usage, withPermit } = yield* Permits
          const passOn = <E>(rest: Effect.Effect<void, E>) =>
            Effect.flatMap(CurrentPermit, (permit) => Effect.zipRight(permit.awaitReady, permit.passOn(rest)))
          const fibers = yield* Effect.forEach(fates, (kind) => {
            const work: Record<typeof kind, Effect.Effect<unknown, string>> = {
              succeed: Effect.yieldNow(),
              fail: Effect.zipRight(Effect.yieldNow(), Effect.fail("failed")),
              die: Effect.zipRight(Effect.yieldNow(), Effect.die("died")),
              interrupt: Effect.never,
              throw: Effect.suspend(() => {
                throw new Error("spawn")
              }),
              "interrupt while waiting": Effect.void,
              "pass on": passOn(Effect.yieldNow()),
              "pass on and fail": passOn(Effect.fail("failed")),
              "interrupt when passed on": passOn(Effect.never),
            }
            return Effect.fork(withPermit("llm")(work[kind] ?? Effect.void))
          })
          yield* Effect.yieldNow()
          yield* Effect.forEach(
            fibers,
            (fiber, index) =>
              fates[index]?.startsWith("interrupt") === true ? Fiber.interrupt(fiber) : Fiber.await(fiber),
            { concurrency: "unbounded" },
          )
          expect(usage("llm")?.running).toBe(0)
          // All of them can be taken again.
          const gate = yield* Deferred.make<void>()
          const takers = yield* Effect.forEach(Array.from({ length: permits }), () =>
            Effect.fork(withPermit("llm")(Deferred.await(gate))),
          )
          yield* Effect.yieldNow().pipe(Effect.repeatN(20))
          expect(usage("llm")?.running).toBe(permits)
          yield* Deferred.succeed(gate, undefined)
          yield* Fiber.joinAll(takers)
        })
        await Effect.runPromise(Effect.provide(program, Permits.layer({ llm: permits })))
      }),
      { numRuns: 200 },
    )
  })

  it.effect("runs nothing for a resource that has no ceiling", () =>
    Effect.gen(function* () {
      const { withPermit } = yield* Permits
      const exit = yield* Effect.exit(withPermit("unknown")(Effect.void))
      expect(Exit.isFailure(exit)).toBe(true)
    }).pipe(Effect.provide(Permits.layer({ llm: 2 }))),
  )
})
