/** What the store does while its disk hangs or fails, with a backend that does what it is told. */
import { describe, expect, it } from "@effect/vitest"
import { Array as Arr, Effect, Either, Fiber, TestServices } from "effect"
import type { JobId } from "../../src/Job.js"
import * as Commit from "../../src/Store/Commit.js"
import { type Kv, KvError, put } from "../../src/Store/Kv.js"
import * as KvStore from "../../src/Store/KvStore.js"
import { makeKv } from "../../src/Store/Memory.js"
import { piece, roomy, submission, succeeded } from "./submission.js"

/** A backend whose commits wait while it hangs, are made but not confirmed while it dawdles, and fail while it is broken. */
const makeDisk = () => {
  const kv = makeKv()
  const waiting: Array<() => void> = []
  const disk = {
    hangs: false,
    dawdles: false,
    broken: false,
    waiting,
    goOn: () => {
      disk.hangs = false
      disk.dawdles = false
      for (const commit of waiting.splice(0)) commit()
    },
    kv: {
      ...kv,
      commit: (ops, done) => {
        const commit = () =>
          disk.broken ? done(new KvError({ reason: "unavailable", detail: "it is broken" })) : kv.commit(ops, done)
        if (disk.hangs) waiting.push(commit)
        else if (disk.dawdles) kv.commit(ops, (error) => waiting.push(() => done(error)))
        else commit()
      },
    } satisfies Kv,
  }
  return disk
}

const opened = Effect.gen(function* () {
  const disk = makeDisk()
  return { disk, store: yield* KvStore.make(disk.kv, "test") }
})

/** Waits for what other fibers do, without time. */
const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => (condition() ? Effect.void : Effect.zipRight(Effect.yieldNow(), until(condition))))

describe("a disk that hangs", () => {
  it.effect("fails every change within 2 s, and the change is made whole when it goes on", () =>
    Effect.gen(function* () {
      const { disk, store } = yield* opened
      disk.hangs = true
      const one = submission()
      const start = performance.now()
      const [first, second, ping] = yield* Effect.all(
        [
          Effect.flip(store.create(one, { maxQueued: 2 })),
          Effect.flip(store.create(one, { maxQueued: 2 })),
          Effect.flip(store.ping),
        ],
        { concurrency: "unbounded" },
      )
      expect(performance.now() - start).toBeLessThan(10_000)
      for (const error of [first, second, ping]) {
        expect(error).toMatchObject({ _tag: "StoreError", reason: "unavailable" })
      }
      // The second creation had not begun, and never will.
      expect(disk.waiting).toHaveLength(2)
      // The place of the first one is still kept.
      disk.hangs = false
      yield* store.create(submission(), { maxQueued: 2 })
      expect(yield* Effect.flip(store.create(submission(), { maxQueued: 2 }))).toMatchObject({ _tag: "QueueFull" })
      disk.goOn()
      expect((yield* store.counts).get("llm")?.queued).toBe(2)
      expect(yield* store.create(one, roomy)).toMatchObject({ created: false, job: { id: one.id } })
      expect((yield* store.claim(one.id, "demo"))?.job.attempt).toBe(1)
    }),
  )

  it.effect("does not let a job change before its earlier change has ended, whoever is interrupted", () =>
    Effect.gen(function* () {
      const { disk, store } = yield* opened
      const { job } = yield* store.create(submission(), roomy)
      disk.hangs = true
      const claim = yield* Effect.fork(store.claim(job.id, "demo"))
      yield* until(() => disk.waiting.length === 1)
      const interrupting = yield* Effect.fork(Fiber.interrupt(claim))
      const cancel = yield* Effect.fork(store.cancel(job.id))
      yield* Effect.yieldNow()
      expect(disk.waiting).toHaveLength(1)
      disk.goOn()
      yield* Fiber.join(interrupting)
      // Both happened, one after the other.
      expect(yield* Fiber.join(cancel)).toMatchObject({ status: "running", attempt: 1, cancelRequestedAt: 0 })
      expect((yield* store.counts).get("llm")).toMatchObject({ queued: 0, running: 1 })
    }),
  )

  it.effect("hides no job from the list while its change is made and not yet confirmed", () =>
    Effect.gen(function* () {
      const { disk, store } = yield* opened
      const { job } = yield* store.create(submission(), roomy)
      disk.dawdles = true
      const claim = yield* Effect.fork(store.claim(job.id, "demo"))
      yield* until(() => disk.waiting.length === 1)
      const { jobs } = yield* store.list({ caller: job.caller, limit: 9 })
      expect(jobs).toMatchObject([{ id: job.id, status: "running" }])
      disk.goOn()
      yield* Fiber.join(claim)
    }),
  )

  it.effect("lets other jobs go on", () =>
    Effect.gen(function* () {
      const { disk, store } = yield* opened
      disk.hangs = true
      const all = yield* Effect.fork(
        Effect.forEach(Arr.range(1, 50), () => store.create(submission(), roomy), { concurrency: "unbounded" }),
      )
      // All of them reach the disk together.
      yield* until(() => disk.waiting.length === 50)
      disk.goOn()
      expect(yield* Fiber.join(all)).toHaveLength(50)
    }),
  )
})

describe("a disk that fails", () => {
  it.effect("changes nothing, not even in what the process remembers", () =>
    Effect.gen(function* () {
      const { disk, store } = yield* opened
      const { job } = yield* store.create(submission(), { maxQueued: 2 })
      yield* store.claim(job.id, "demo")
      const waiting = yield* Effect.fork(store.awaitEvent(job.id, 2))
      disk.broken = true
      const changes: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
        store.create(submission(), { maxQueued: 1 }),
        store.append(job.id, 1, piece("text")),
        store.settle(job.id, 1, succeeded, piece("text")),
        store.cancel(job.id),
        store.ping,
      ]
      for (const change of changes) {
        expect(yield* Effect.flip(change)).toMatchObject({ _tag: "StoreError", detail: "it is broken" })
      }
      expect((yield* store.counts).get("llm")).toMatchObject({ queued: 0, running: 1 })
      expect(yield* store.get(job.id)).toMatchObject({ status: "running", events: 2, cancelRequestedAt: null })
      disk.broken = false
      yield* store.create(submission(), { maxQueued: 1 })
      expect(yield* Fiber.poll(waiting)).toMatchObject({ _tag: "None" })
      yield* store.settle(job.id, 1, succeeded)
      yield* Fiber.join(waiting)
    }),
  )
})

describe("a change without a fiber", () => {
  const write = () => Either.right({ ...Commit.answer(1), ops: [put("meta", "a", "b")] })

  it.effect("is made once its disk confirms it, and not begun while somebody holds one of its locks", () =>
    Effect.gen(function* () {
      const disk = makeDisk()
      const commit = Commit.make(disk.kv)
      const told: Array<unknown> = []
      const tell = (result: unknown) => told.push(result)
      disk.hangs = true
      expect(commit.begin(["a", "b"], write, 0, tell)).toBe(true)
      expect(commit.begin(["b"], write, 0, tell)).toBe(false)
      expect(told).toEqual([])
      disk.goOn()
      expect(told).toEqual([Either.right(1)])
      disk.broken = true
      expect(commit.begin(["a", "b"], write, 0, tell)).toBe(true)
      expect(told[1]).toMatchObject({ left: { _tag: "KvError", reason: "unavailable" } })
      expect(commit.begin(["a"], () => Either.left("refused"), 0, tell)).toBe(true)
      expect(told[2]).toEqual(Either.left("refused"))
      expect(() =>
        commit.begin(
          ["a"],
          () => {
            throw new Error("a bug")
          },
          0,
          tell,
        ),
      ).toThrow("a bug")
      expect(told).toHaveLength(3)
      expect(commit.size()).toBe(0)
    }),
  )

  it.effect("is told of a disk that hangs after 2 s, once", () =>
    Effect.gen(function* () {
      const disk = makeDisk()
      const commit = Commit.make(disk.kv)
      const told: Array<unknown> = []
      disk.hangs = true
      commit.begin(["a"], write, 0, (result) => told.push(result))
      yield* until(() => told.length === 1).pipe(TestServices.provideLive)
      expect(told[0]).toMatchObject({ left: { _tag: "KvError", reason: "unavailable" } })
      disk.goOn()
      expect(told).toHaveLength(1)
      expect(commit.size()).toBe(0)
    }),
  )
})

describe("a lock", () => {
  it.effect("is left by everybody: who is done, who fails, who dies, who is interrupted in line", () =>
    Effect.gen(function* () {
      const disk = makeDisk()
      const commit = Commit.make(disk.kv)
      const id = "job" as JobId
      const write = commit.run(["key", id], () => Either.right({ ...Commit.answer(1), ops: [put("meta", "a", "b")] }))
      disk.hangs = true
      const holder = yield* Effect.fork(write)
      yield* until(() => disk.waiting.length === 1)
      const line = yield* Effect.forEach(Arr.range(1, 20), () => Effect.fork(write))
      yield* until(() => commit.size() === 2)
      yield* Effect.forEach(line.slice(0, 10), Fiber.interrupt)
      disk.goOn()
      yield* Fiber.join(holder)
      // One that is handed the lock and interrupted in the same moment.
      yield* Effect.forEach(line.slice(10, 12), Fiber.interrupt)
      yield* Effect.forEach(line.slice(12), Fiber.join)
      yield* Effect.exit(commit.run([id], () => Either.left("failed")))
      yield* Effect.exit(
        commit.run([id], () => {
          throw new Error("died")
        }),
      )
      expect(commit.size()).toBe(0)
    }),
  )
})
