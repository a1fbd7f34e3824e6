import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { Offload } from "../../src/Offload.js"
import { holds, service, soon, submit, untilStatus } from "./harness.js"

/**
 * How long the event loop was kept from a timer of 5 ms, each time, in ascending order. In processor time, which is
 * what this process spends: on a busy machine the clock tells of others too.
 */
const watchTurns = () => {
  const delays: Array<number> = []
  let last = process.cpuUsage()
  const timer = setInterval(() => {
    const { system, user } = process.cpuUsage(last)
    last = process.cpuUsage()
    delays.push((system + user) / 1000)
  }, 5)
  return {
    end: () => {
      clearInterval(timer)
      return delays.sort((a, b) => a - b)
    },
  }
}

describe("dispatch", () => {
  it.live("runs the jobs of one caller in their order", () => {
    const order: Array<string> = []
    return Effect.gen(function* () {
      const jobs = yield* Effect.forEach(
        Array.from({ length: 50 }, (_, index) => String(index)),
        (prompt) => submit(prompt),
      )
      yield* Effect.forEach(jobs, ({ id }) => untilStatus(id, "succeeded"))
      expect(order).toEqual(Array.from({ length: 50 }, (_, index) => String(index)))
    }).pipe(
      Effect.provide(
        service(({ input }) =>
          Effect.gen(function* () {
            order.push(input.prompt)
            yield* Effect.yieldNow()
            return {}
          }),
        ),
      ),
    )
  })

  it.live("follows a change of permits while jobs wait", () => {
    const gates = Effect.runSync(Deferred.make<void>())
    let running = 0
    const settled = (expected: number) => holds(() => running === expected)
    return Effect.gen(function* () {
      const offload = yield* Offload
      const jobs = yield* Effect.forEach(Array.from({ length: 10 }), () => submit("wait"))
      yield* settled(2)
      expect(yield* offload.change("llm", { permits: 5 })).toMatchObject({ name: "llm", permits: 5 })
      yield* settled(5)
      expect((yield* offload.resources)[0]).toMatchObject({ permits: 5, running: 5, queued: 5 })
      yield* Deferred.succeed(gates, undefined)
      yield* Effect.forEach(jobs, ({ id }) => untilStatus(id, "succeeded"))
    }).pipe(
      Effect.provide(
        service(() =>
          Effect.acquireUseRelease(
            Effect.sync(() => void running++),
            () => Effect.as(Deferred.await(gates), {}),
            () => Effect.sync(() => void running--),
          ),
        ),
      ),
    )
  })

  it.live("says how many jobs go first, and when a job is expected to begin", () => {
    const gate = Effect.runSync(Deferred.make<void>())
    return Effect.gen(function* () {
      const offload = yield* Offload
      const warm = yield* submit("warm")
      yield* untilStatus(warm.id, "succeeded")
      yield* offload.resources.pipe(
        Effect.filterOrFail(([llm]) => llm?.running === 0 && llm.serviceMillis !== null),
        Effect.retry(soon),
      )
      const begun = yield* Effect.forEach(Array.from({ length: 2 }), () => submit("wait"))
      const waiting = yield* Effect.forEach(Array.from({ length: 3 }), () => submit("wait"))
      yield* Effect.forEach(begun, ({ id }) => untilStatus(id, "running"))
      const queues = yield* Effect.forEach(waiting, ({ id }) => Effect.map(offload.get(id), ({ queue }) => queue))
      expect(queues.map((queue) => queue?.ahead)).toEqual([0, 1, 2])
      expect(queues.every((queue) => typeof queue?.expectedStartAt === "number")).toBe(true)
      yield* Deferred.succeed(gate, undefined)
      yield* Effect.forEach(waiting, ({ id }) => untilStatus(id, "succeeded"))
    }).pipe(
      Effect.provide(
        service(({ input }) => (input.prompt === "warm" ? Effect.succeed({}) : Effect.as(Deferred.await(gate), {}))),
      ),
    )
  })

  it.live(
    "keeps the event loop's delay under 50 ms at p99 with 10,000 jobs waiting while jobs finish",
    () => {
      const gate = Effect.runSync(Deferred.make<void>())
      return Effect.gen(function* () {
        const offload = yield* Offload
        yield* Effect.forEach(Array.from({ length: 10_000 }), () => submit("wait"), { concurrency: 100 })
        const queued = Effect.map(offload.resources, ([llm]) => llm?.queued ?? 0)
        const turns = watchTurns()
        yield* Deferred.succeed(gate, undefined)
        // 500 finish while most of the others wait.
        yield* queued.pipe(
          Effect.filterOrFail((now) => now <= 9500),
          Effect.retry(soon),
        )
        const delays = turns.end()
        expect(delays.length).toBeGreaterThan(50)
        expect(delays[Math.floor(delays.length * 0.99)]).toBeLessThan(50)
      }).pipe(
        Effect.provide(
          service(() => Effect.as(Effect.zipRight(Deferred.await(gate), Effect.sleep(5)), {}), { drain: 0 }),
        ),
      )
    },
    240_000,
  )
})
