import { randomUUID } from "node:crypto"
import { readFileSync, readlinkSync } from "node:fs"
import { Context, Effect, Layer, Logger, Schedule } from "effect"
import { Redis as Client } from "ioredis"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type JobId, makeId } from "../../src/Job.js"
import * as Redis from "../../src/Store/Redis.js"
import { Store } from "../../src/Store.js"
import { Proxy } from "../chaos/Proxy.js"
import { hasRedis, RedisServer } from "./redisServer.js"
import { piece, roomy, submission, succeeded } from "./submission.js"
import { suite } from "./suite.js"

const readBootId = () => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()
const readNamespace = () => readlinkSync("/proc/self/ns/pid")

const server = new RedisServer()
const quiet = Logger.remove(Logger.defaultLogger)

const layer = (prefix: string) =>
  Layer.suspend(() => Redis.layer({ url: server.url, prefix: `{${prefix}}:` })).pipe(Layer.provide(quiet))

/** An empty store at each build. */
const fresh = Layer.suspend(() => layer(randomUUID()))

const run = <A, E>(effect: Effect.Effect<A, E, Store>, store: Layer.Layer<Store, unknown>) =>
  Effect.runPromise(Effect.provide(effect, store).pipe(Effect.provide(quiet)))

describe.skipIf(!hasRedis)("redis", () => {
  beforeAll(() => server.start())
  afterAll(() => server.dispose())

  suite("redis", fresh)

  describe("redis: two processes", () => {
    /** Two stores over the same keys, as two processes have them. */
    const both = async <A>(use: (one: Store["Type"], two: Store["Type"]) => Effect.Effect<A, unknown>) => {
      const prefix = randomUUID()
      return await run(
        Effect.gen(function* () {
          const one = yield* Store
          const two = Context.get(yield* Layer.build(layer(prefix)), Store)
          return yield* use(one, two)
        }).pipe(Effect.scoped),
        layer(prefix),
      )
    }

    it("claim a job once, and see each other's events", () =>
      both((one, two) =>
        Effect.gen(function* () {
          const { job } = yield* one.create(submission(), roomy)
          const claims = yield* Effect.all([one.claim(job.id, "a"), two.claim(job.id, "b")], {
            concurrency: "unbounded",
          })
          expect(claims.filter((claim) => claim !== null)).toHaveLength(1)
          const waiting = yield* Effect.fork(two.awaitEvent(job.id, 2))
          yield* one.append(job.id, 1, piece("hello"))
          yield* waiting
          expect(yield* two.output(job.id)).toBe("hello")
          const settled = yield* Effect.all(
            [one, two].map((store) => Effect.either(store.settle(job.id, 1, succeeded))),
            { concurrency: "unbounded" },
          )
          expect(settled.filter(({ _tag }) => _tag === "Right")).toHaveLength(1)
        }),
      ))

    it("drain each for itself: what one of them leaves is known as drained after its end, also to one that came later", () => {
      const prefix = randomUUID()
      const abandoned = (store: Store["Type"]) =>
        Effect.map(
          store.orphans(() => true),
          (found) => found.map(({ drained, job }) => [job.id, drained]),
        )
      return run(
        Effect.gen(function* () {
          const left = yield* Effect.scoped(
            Effect.gen(function* () {
              const one = Context.get(yield* Layer.build(Layer.fresh(layer(prefix))), Store)
              const { job } = yield* one.create(submission({ id: makeId(0) }), roomy)
              yield* one.claim(job.id, "a")
              yield* one.drain
              return job.id
            }),
          )
          const two = Context.get(yield* Layer.build(Layer.fresh(layer(prefix))), Store)
          const { job } = yield* two.create(submission({ id: makeId(0) }), roomy)
          yield* two.claim(job.id, "b")
          expect(yield* abandoned(two)).toEqual([[left, true]])
          expect((yield* two.orphans(() => false)).find((each) => each.job.id === job.id)?.drained).toBe(false)
        }).pipe(Effect.scoped),
        fresh,
      )
    })

    it("keep one limit, one idempotency key and one sequence between them", () =>
      both((one, two) =>
        Effect.gen(function* () {
          const same = submission({ idempotency: { key: "k", fingerprint: "f" } })
          const made = yield* Effect.forEach(
            Array.from({ length: 40 }, (_, n) => (n % 2 === 0 ? one : two)),
            (store) => store.create({ ...same, id: makeId(0) }, { maxQueued: 1 }),
            { concurrency: "unbounded" },
          )
          expect(new Set(made.map(({ job }) => job.id)).size).toBe(1)
          expect(made.filter(({ created }) => created)).toHaveLength(1)
          const more = yield* Effect.forEach(
            Array.from({ length: 40 }, (_, n) => (n % 2 === 0 ? one : two)),
            (store) => Effect.either(store.create(submission({ id: makeId(0) }), { maxQueued: 11 })),
            { concurrency: "unbounded" },
          )
          const sequences = more.flatMap((each) => (each._tag === "Right" ? [each.right.job.sequence] : []))
          expect(sequences.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 10 }, (_, n) => n + 2))
        }),
      ))
  })

  describe("redis: a node", () => {
    /** A store of a prefix of its own with one running job, and a client to play the other nodes with. */
    const alone = async (
      leaseMillis: number,
      use: (store: Store["Type"], id: JobId, client: Client, prefix: string) => Effect.Effect<void, unknown>,
    ) => {
      const prefix = `{${randomUUID()}}:`
      const client = new Client(server.url)
      try {
        await run(
          Effect.gen(function* () {
            const store = yield* Store
            const { job } = yield* store.create(submission(), roomy)
            yield* store.claim(job.id, "a")
            yield* use(store, job.id, client, prefix)
          }),
          Redis.layer({ url: server.url, prefix, leaseMillis }).pipe(Layer.provide(quiet)),
        )
      } finally {
        client.disconnect()
      }
    }
    const poll = Schedule.intersect(Schedule.spaced(20), Schedule.recurs(1000))
    const orphans = (store: Store["Type"]) =>
      Effect.map(
        store.orphans(() => true),
        (found) => found.map(({ job }) => job.id),
      )
    const elsewhere = { pid: 1, startedTicks: "0", bootId: "another machine", pidNamespace: null, beat: 1 }
    const here = { ...elsewhere, bootId: readBootId(), pidNamespace: readNamespace() }

    it("that is silent for its lease is taken for dead, and what it had claimed is an orphan", () =>
      alone(1000, (store, id, client, prefix) =>
        Effect.gen(function* () {
          const began = Date.now()
          yield* Effect.promise(() => client.hset(`${prefix}nodes`, "ghost", JSON.stringify(elsewhere)))
          yield* Effect.promise(() => client.hset(`${prefix}running`, id, "ghost"))
          yield* Effect.repeat(orphans(store), { until: (found) => found.length > 0, schedule: poll })
          expect(Date.now() - began).toBeGreaterThanOrEqual(1000)
          expect(yield* Effect.promise(() => client.hkeys(`${prefix}nodes`))).toHaveLength(1)
          expect(yield* orphans(store)).toEqual([id])
        }),
      ))

    it("that goes on speaking keeps what it has claimed", () =>
      alone(4000, (store, id, client, prefix) =>
        Effect.gen(function* () {
          yield* Effect.promise(() => client.hset(`${prefix}running`, id, "other"))
          const began = Date.now()
          for (let beat = 0; Date.now() < began + 5000; beat++) {
            yield* Effect.promise(() => client.hset(`${prefix}nodes`, "other", JSON.stringify({ ...elsewhere, beat })))
            yield* Effect.sleep(100)
            expect(yield* orphans(store)).toEqual([])
          }
        }),
      ))

    it("of this machine whose process is gone is dead at once", () =>
      alone(60_000, (store, id, client, prefix) =>
        Effect.gen(function* () {
          yield* Effect.promise(() => client.hset(`${prefix}nodes`, "dead", JSON.stringify(here)))
          yield* Effect.promise(() => client.hset(`${prefix}running`, id, "dead"))
          expect(yield* orphans(store)).toEqual([])
          const next = Redis.layer({ url: server.url, prefix, leaseMillis: 60_000 }).pipe(Layer.provide(quiet))
          // The one that keeps looks at its next beat; another that starts is no keeper, and changes nothing.
          yield* Effect.promise(() => client.del(`${prefix}keeper`))
          const starting = yield* Layer.build(next)
          expect(yield* orphans(Context.get(starting, Store))).toEqual([id])
        }).pipe(Effect.scoped),
      ))

    it("finds what it claimed and does not carry", () =>
      alone(60_000, (store, id) =>
        Effect.gen(function* () {
          expect(yield* orphans(store)).toEqual([])
          expect((yield* store.orphans(() => false)).map(({ job }) => job.id)).toEqual([id])
        }),
      ))

    it("that was taken for dead claims nothing until it has joined again, and changes nothing that others do", () =>
      alone(2000, (store, id, client, prefix) =>
        Effect.gen(function* () {
          const { job } = yield* store.create(submission({ id: makeId(0) }), roomy)
          yield* Effect.promise(() => client.del(`${prefix}nodes`))
          expect(yield* Effect.flip(store.claim(job.id, "a"))).toMatchObject({
            _tag: "StoreError",
            reason: "unavailable",
            detail: expect.stringContaining("taken for dead"),
          })
          expect((yield* store.get(job.id)).status).toBe("queued")
          yield* Effect.retry(store.claim(job.id, "a"), poll)
          // It has another name now: its earlier attempt is nobody's.
          yield* Effect.repeat(orphans(store), { until: (found) => found.length > 0, schedule: poll })
          expect(yield* orphans(store)).toEqual([id])
        }),
      ))
  })

  describe("redis: a server", () => {
    it("that is frozen or gone fails each operation within 2 s, and is found again", async () => {
      const own = await new RedisServer().start()
      try {
        await run(
          Effect.gen(function* () {
            const store = yield* Store
            const { job } = yield* store.create(submission(), roomy)
            for (const stop of ["SIGSTOP", "SIGKILL"] as const) {
              if (stop === "SIGKILL") yield* Effect.promise(() => own.kill())
              else own.signal(stop)
              const began = Date.now()
              const failed = yield* Effect.flip(store.create(submission({ id: makeId(0) }), roomy))
              expect(failed).toMatchObject({ _tag: "StoreError", operation: "create", reason: "unavailable" })
              yield* Effect.flip(store.ping)
              expect(Date.now() - began).toBeLessThan(4000)
              if (stop === "SIGKILL") yield* Effect.promise(() => own.start())
              else own.signal("SIGCONT")
              yield* Effect.retry(store.ping, Schedule.intersect(Schedule.spaced(20), Schedule.recurs(500)))
            }
            // It was fsynced: kill -9 lost nothing.
            expect((yield* store.get(job.id)).status).toBe("queued")
          }),
          Redis.layer({ url: own.url }).pipe(Layer.provide(quiet)),
        )
      } finally {
        await own.dispose()
      }
    })

    it("that throws keys away is refused, unless that is allowed", async () => {
      const own = await new RedisServer(["--maxmemory-policy", "allkeys-lru"]).start()
      const open = (allowEviction: boolean) =>
        Effect.runPromise(
          Effect.either(Effect.provide(Store, Redis.layer({ url: own.url, allowEviction }).pipe(Layer.provide(quiet)))),
        )
      try {
        expect(await open(false)).toMatchObject({ left: { message: expect.stringContaining("noeviction") } })
        expect(await open(true)).toMatchObject({ _tag: "Right" })
      } finally {
        await own.dispose()
      }
    })

    it("that has thrown a queued job away brings the next ones, and counts it no more", async () => {
      const prefix = `{${randomUUID()}}:`
      const client = new Client(server.url)
      try {
        await run(
          Effect.gen(function* () {
            const store = yield* Store
            const ids: Array<JobId> = []
            for (const caller of ["ada", "ada", "bob", "ada", "eve"]) {
              ids.push((yield* store.create(submission({ id: makeId(0), caller }), roomy)).job.id)
            }
            const [first, second, , , last] = ids
            for (const id of [first, second, last]) yield* Effect.promise(() => client.del(`${prefix}job:${id}`))
            expect(yield* store.queued("llm", 1)).toEqual([ids[2]])
            expect(yield* store.queued("llm", 9)).toEqual([ids[2], ids[3]])
            expect((yield* store.counts).get("llm")?.queued).toBe(2)
            expect(yield* store.ahead(ids[3] as JobId)).toBe(1)
            yield* store.create(submission({ id: makeId(0) }), { ...roomy, maxQueuedPerCaller: 2 })
          }),
          Redis.layer({ url: server.url, prefix, allowEviction: true }).pipe(Layer.provide(quiet)),
        )
      } finally {
        client.disconnect()
      }
    })

    it("whose memory is full lets jobs be read, claimed, ended, cancelled and removed, also after a start", async () => {
      const own = await new RedisServer().start()
      const client = new Client(own.url)
      const layer = Redis.layer({ url: own.url }).pipe(Layer.provide(quiet))
      const isFull = { _tag: "StoreError", reason: "unavailable", full: true, unmade: true }
      try {
        const jobs = await run(
          Effect.gen(function* () {
            const store = yield* Store
            const jobs: Array<JobId> = []
            for (let n = 0; n < 6; n++) {
              jobs.push((yield* store.create(submission({ id: makeId(0) }), roomy)).job.id)
            }
            const [running, claimed, queued] = jobs as [JobId, JobId, JobId]
            yield* store.claim(running, "demo")
            yield* Effect.promise(() => client.config("SET", "maxmemory", "1"))
            expect(yield* Effect.flip(store.create(submission({ id: makeId(0) }), roomy))).toMatchObject({
              _tag: "StoreFull",
              scope: "machine",
            })
            expect(yield* Effect.flip(store.append(running, 1, piece("text")))).toMatchObject(isFull)
            expect(yield* Effect.flip(store.ping)).toMatchObject(isFull)
            yield* store.settle(running, 1, succeeded, piece("text"))
            expect(yield* store.output(running)).toBe("text")
            expect(yield* store.claim(claimed, "demo")).not.toBe(null)
            yield* store.cancel(queued)
            yield* store.remove(queued)
            expect((yield* store.list({ caller: "ada", limit: 9 })).jobs).toHaveLength(5)
            yield* store.drain
            return jobs
          }),
          layer,
        )
        await run(
          Effect.gen(function* () {
            const store = yield* Store
            const [running, claimed] = jobs as [JobId, JobId]
            expect((yield* store.get(running)).status).toBe("succeeded")
            const poll = Schedule.intersect(Schedule.spaced(20), Schedule.recurs(500))
            const found = yield* Effect.repeat(
              store.orphans(() => true),
              { until: (all) => all.length > 0, schedule: poll },
            )
            expect(yield* store.orphans(() => true)).toMatchObject([{ job: { id: claimed }, drained: true }])
            yield* store.settle(claimed, 1, { _tag: "Interrupted" })
            const late = Effect.map(store.advance({ retentionMillis: -1 }), ({ removed }) => removed)
            expect(yield* late).toBe(1)
            expect(found).toBeDefined()
            yield* Effect.promise(() => client.config("SET", "maxmemory", "0"))
            yield* store.ping
            yield* store.create(submission({ id: makeId(0) }), roomy)
          }),
          layer,
        )
      } finally {
        client.disconnect()
        await own.dispose()
      }
    })

    it("that is slow fails an operation of many commands within 2 s in all", async () => {
      const proxy = await new Proxy(Number(new URL(server.url).port)).start()
      try {
        await run(
          Effect.gen(function* () {
            const store = yield* Store
            const { job } = yield* store.create(submission(), roomy)
            yield* store.claim(job.id, "demo")
            // A command takes 0.7 s, which is not too slow for one; this operation has three or four of them.
            proxy.millis = 350
            proxy.fault = "slow"
            const began = performance.now()
            const error = yield* Effect.flip(store.orphans(() => false))
            expect(error).toMatchObject({ _tag: "StoreError", operation: "orphans", reason: "unavailable" })
            expect(error.message).toContain("within 1.9 s")
            expect(performance.now() - began).toBeLessThan(2800)
            proxy.fault = "fine"
            expect((yield* Effect.retry(store.get(job.id), Schedule.recurs(20))).status).toBe("running")
          }),
          Redis.layer({ url: proxy.url, prefix: `{${randomUUID()}}:` }).pipe(Layer.provide(quiet)),
        )
      } finally {
        proxy.stop()
      }
    })

    it("that is not there is refused", async () => {
      const layer = Redis.layer({ url: "redis://127.0.0.1:1" }).pipe(Layer.provide(quiet))
      expect(await Effect.runPromise(Effect.either(Effect.provide(Store, layer)))).toMatchObject({
        left: { _tag: "StoreError", operation: "open" },
      })
    })
  })
})
