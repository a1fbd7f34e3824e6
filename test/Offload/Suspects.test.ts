/** Jobs that were running in deaths of the service, with virtual time: who begins, and beside whom. */
import { setImmediate } from "node:timers/promises"
import { describe, expect, it } from "@effect/vitest"
import { Clock, Context, Deferred, Effect, Fiber, Layer, TestClock } from "effect"
import { type JobId, makeId } from "../../src/Job.js"
import { turnMillis } from "../../src/Offload/Alone.js"
import { Offload } from "../../src/Offload.js"
import type { Settings } from "../../src/OffloadConfig.js"
import * as KvStore from "../../src/Store/KvStore.js"
import * as Memory from "../../src/Store/Memory.js"
import { Store, StoreError } from "../../src/Store.js"
import { roomy, submission } from "../Store/submission.js"
import { captureLog, type Line, type Script, service, submit } from "./harness.js"

/** Lets time pass by steps, until it is so; fails after so many seconds of it. */
const within = (seconds: number, isSo: Effect.Effect<boolean, unknown, Offload | Store>) =>
  Effect.gen(function* () {
    const end = (yield* Clock.currentTimeMillis) + seconds * 1000
    while (!(yield* Effect.orDie(isSo))) {
      if ((yield* Clock.currentTimeMillis) >= end) throw new Error(`not so after ${seconds} s`)
      yield* TestClock.adjust(250)
      for (let n = 0; n < 5; n++) yield* Effect.promise(() => setImmediate())
    }
  })

const status = (id: JobId) => Effect.flatMap(Store, (store) => Effect.map(store.get(id), (job) => job.status))
const has = (id: JobId, wanted: string) => Effect.map(status(id), (now) => now === wanted)

/** Saves a job that was running in so many deaths of earlier processes. */
const died = (prompt: string, deaths: number, resource = "llm") =>
  Effect.gen(function* () {
    const store = yield* Store
    const { job } = yield* store.create(
      submission({ id: makeId(0), resource, input: { prompt }, maxAttempts: 1 }),
      roomy,
    )
    for (let attempt = 1; attempt <= deaths; attempt++) {
      yield* store.claim(job.id, "demo", { alone: true })
      yield* store.settle(job.id, attempt, { _tag: "Orphaned", retryAt: 0 })
      yield* store.advance({ retentionMillis: 1e9 })
    }
    return job.id
  })

/** Work that lasts as many seconds as its prompt says after the colon, and a record of what ran beside what. */
const makeWork = () => {
  const running = new Set<string>()
  const began: Array<{ readonly name: string; readonly beside: ReadonlyArray<string>; readonly at: number }> = []
  const script: Script = ({ input }) =>
    Effect.gen(function* () {
      const [name = "", seconds = "1"] = input.prompt.split(":")
      const at = yield* Clock.currentTimeMillis
      began.push({ name, beside: [...running], at })
      running.add(name)
      yield* Effect.sleep(Number(seconds) * 1000).pipe(Effect.ensuring(Effect.sync(() => running.delete(name))))
    })
  const of = (name: string) => began.filter((each) => each.name === name)
  return { began, of, running, script }
}

/** Runs a test on a service over a store that is filled before it starts. */
const over = <A, B>(
  fill: Effect.Effect<A, unknown, Store>,
  { script }: ReturnType<typeof makeWork>,
  settings: Partial<Settings>,
  test: (filled: A) => Effect.Effect<B, unknown, Offload | Store>,
) =>
  Effect.gen(function* () {
    const filled = yield* fill
    const store = yield* Store
    return yield* Effect.provide(test(filled), service(script, settings, Layer.succeed(Store, store)))
  }).pipe(Effect.provide(Memory.layer), Effect.scoped, Effect.orDie)

const two = { permits: 2 }

describe("jobs that were running when the service died twice", () => {
  it.effect("run one after another and alone, and then all is as it was", () => {
    const work = makeWork()
    const fill = Effect.all([died("first:5", 2), died("second:5", 2), died("once:5", 1), died("new:5", 0)])
    return over(fill, work, two, (ids) =>
      Effect.gen(function* () {
        for (const id of ids) yield* within(120, has(id, "succeeded"))
        const more = yield* Effect.all([submit("a:5"), submit("b:5")])
        for (const { id } of more) yield* within(20, has(id, "succeeded"))
        expect(work.of("first")).toMatchObject([{ beside: [] }])
        expect(work.of("second")).toMatchObject([{ beside: [] }])
        for (const { beside } of work.began) expect(beside).not.toEqual(expect.arrayContaining(["first"]))
        for (const { beside } of work.began) expect(beside).not.toEqual(expect.arrayContaining(["second"]))
        expect(work.of("new")).toMatchObject([{ beside: ["once"] }])
        expect(work.of("b")).toMatchObject([{ beside: ["a"] }])
      }),
    )
  })

  it.effect("keep every other resource of their process waiting while they run", () => {
    const work = makeWork()
    const resources = JSON.stringify({ llm: { adapter: "demo" }, other: { adapter: "demo" } })
    return over(died("suspect:30", 2), work, { resources }, (suspect) =>
      Effect.gen(function* () {
        yield* within(20, has(suspect, "running"))
        const offload = yield* Offload
        const { snapshot } = yield* offload.submit({
          caller: "test",
          resource: "other",
          input: { prompt: "beside:1" },
          metadata: {},
        })
        yield* within(60, has(snapshot.job.id, "succeeded"))
        expect(work.of("beside")).toMatchObject([{ beside: [] }])
        expect(yield* status(suspect)).toBe("succeeded")
      }),
    )
  })

  it.effect("begin within five times the longest attempt, whatever comes, and let others begin meanwhile", () => {
    const work = makeWork()
    const longest = 25
    return over(Effect.void, work, two, () =>
      Effect.gen(function* () {
        const offload = yield* Offload
        let n = 0
        const flood = Effect.forever(
          Effect.zipRight(
            Effect.flatMap(offload.counts, (counts) =>
              (counts.get("llm")?.queued ?? 0) < 3
                ? Effect.asVoid(submit(`flood${n}:${n++ === 0 ? 15 : longest}`))
                : Effect.void,
            ),
            Effect.sleep(500),
          ),
        )
        const flooding = yield* Effect.fork(flood)
        yield* within(
          30,
          Effect.sync(() => work.running.size === 2),
        )
        const since = yield* Clock.currentTimeMillis
        const suspect = yield* died("late:5", 2)
        yield* within(5 * longest + 30, has(suspect, "succeeded"))
        const [late] = work.of("late")
        expect(late?.beside).toEqual([])
        const between = work.began.filter(
          ({ at, name }) => name.startsWith("flood") && at > since && at < (late?.at ?? 0),
        )
        expect(between.length).toBeGreaterThan(0)
        yield* Fiber.interrupt(flooding)
      }),
    )
  })

  it.effect("keep nobody waiting once they are cancelled, or their deadline has passed", () => {
    const work = makeWork()
    return over(Effect.void, work, two, () =>
      Effect.gen(function* () {
        const offload = yield* Offload
        const long = yield* submit("long:1000")
        yield* within(5, has(long.id, "running"))
        const suspect = yield* died("suspect:5", 2)
        const next = yield* submit("next:1")
        yield* TestClock.adjust(turnMillis / 2)
        expect(yield* status(next.id)).toBe("queued")
        yield* offload.cancel(suspect)
        expect(yield* status(suspect)).toBe("cancelled")
        // Earlier than the turn would have ended.
        yield* within(turnMillis / 2000 - 1, has(next.id, "succeeded"))
        expect(work.of("suspect")).toEqual([])
        yield* offload.cancel(long.id)
      }),
    )
  })

  it.effect("stay queued in a drain, which does not wait for them", () => {
    const work = makeWork()
    return over(Effect.void, work, { ...two, drain: 100 }, () =>
      Effect.gen(function* () {
        const offload = yield* Offload
        const long = yield* submit("long:1000")
        yield* within(5, has(long.id, "running"))
        const suspect = yield* died("suspect:5", 2)
        yield* TestClock.adjust(2000)
        const draining = yield* Effect.fork(offload.drain)
        yield* within(
          10,
          Effect.map(Fiber.status(draining), ({ _tag }) => _tag === "Done"),
        )
        expect(yield* status(suspect)).toBe("queued")
        expect(work.of("suspect")).toEqual([])
      }),
    )
  })
})

describe("a drain", () => {
  it.effect("is noted in the store before it waits for anything, and again until the store takes it", () => {
    const lines: Array<Line> = []
    let calls = 0
    const gate = Effect.runSync(Deferred.make<void>())
    const failing = Layer.map(Memory.layer, (context) => {
      const store = Context.get(context, Store)
      const drain = Effect.suspend(() =>
        ++calls < 3 ? new StoreError({ operation: "drain", reason: "unavailable", detail: "it is down" }) : store.drain,
      )
      return Context.make(Store, { ...store, drain })
    })
    return Effect.gen(function* () {
      const offload = yield* Offload
      const store = yield* Store
      const job = yield* submit("hello")
      yield* within(5, has(job.id, "running"))
      const draining = yield* Effect.fork(offload.drain)
      yield* within(
        10,
        Effect.sync(() => calls === 3),
      )
      expect((yield* store.orphans(() => false)).map(({ drained }) => drained)).toEqual([true])
      expect(lines.filter(({ message }) => message.startsWith("drain not noted"))).toHaveLength(1)
      yield* Deferred.succeed(gate, undefined)
      yield* within(
        10,
        Effect.map(Fiber.status(draining), ({ _tag }) => _tag === "Done"),
      )
      expect(yield* status(job.id)).toBe("succeeded")
    }).pipe(
      Effect.provide(
        service(() => Deferred.await(gate), { drain: 60_000 }, failing).pipe(Layer.provideMerge(captureLog(lines))),
      ),
    )
  })

  it.effect("hands a job back at once the first time, and from the second in a row on after 5 s and more", () => {
    const waits: Array<number | null> = []
    const kv = Memory.makeKv()
    return Effect.gen(function* () {
      const { job } = yield* (yield* KvStore.make(kv, "memory")).create(submission({ maxAttempts: 1 }), roomy)
      for (let round = 0; round < 4; round++) {
        // Each process opens the store anew.
        const store = yield* KvStore.make(kv, "memory")
        yield* Effect.gen(function* () {
          const offload = yield* Offload
          yield* within(60, has(job.id, "running"))
          const draining = yield* Effect.fork(offload.drain)
          yield* within(
            10,
            Effect.map(Fiber.status(draining), ({ _tag }) => _tag === "Done"),
          )
          const { attempts, retryAt } = yield* store.get(job.id)
          waits.push(retryAt === null ? null : retryAt - (attempts.at(-1)?.finishedAt ?? 0))
        }).pipe(
          Effect.provide(service(() => Effect.never, { retryBase: 10, retryMax: 60_000 }, Layer.succeed(Store, store))),
        )
      }
      const { attempts, status } = yield* (yield* KvStore.make(kv, "memory")).get(job.id)
      expect(status).toBe("queued")
      expect(attempts.map(({ outcome }) => outcome)).toEqual(attempts.map(() => "interrupted"))
      const [first, second, third, fourth] = waits
      expect(first).toBe(null)
      expect(second).toBeGreaterThanOrEqual(5000)
      expect(second).toBeLessThanOrEqual(7500)
      expect(third).toBeGreaterThanOrEqual(5000)
      expect(third).toBeLessThanOrEqual(15_000)
      expect(fourth).toBeGreaterThanOrEqual(10_000)
    })
  })
})
