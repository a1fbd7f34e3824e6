import { execFileSync, spawnSync } from "node:child_process"
import { closeSync, existsSync, mkdirSync, openSync, rmSync, statSync, writeFileSync, writeSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "@effect/vitest"
import { Array as Arr, Chunk, Effect, Fiber, Logger, TestClock } from "effect"
import { open } from "lmdb"
import { type JobId, makeId } from "../../src/Job.js"
import * as Key from "../../src/Store/Key.js"
import * as Presence from "../../src/Store/Lmdb/Presence.js"
import * as Lmdb from "../../src/Store/Lmdb.js"
import { ownProcess } from "../../src/Store/Process.js"
import * as Record from "../../src/Store/Record.js"
import { Store } from "../../src/Store.js"
import { waitUntil } from "../e2e/Service.js"
import { folder, layer } from "./folder.js"
import { writer } from "./process.js"
import { failure, piece, roomy, submission, succeeded } from "./submission.js"
import { listAll, recount, save, suite } from "./suite.js"

suite("lmdb", layer)

/** The store in this folder, for as long as the effect lasts. */
const within =
  (path: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.provide(effect, Lmdb.layer({ path }))

const refusal = (path: string) => Effect.flip(within(path)(Store))

/** A table as lmdb has it, while no store has the folder. */
const table = (path: string, name: string, versions = false) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        open<string, string>({ path, noSubdir: false, overlappingSync: false, maxDbs: 16, encoding: "string" }),
      ),
      (root) => Effect.promise(() => root.close()),
    ),
    (root) => root.openDB<string, string>(name, { encoding: "string", useVersions: versions }),
  )

const overwrite = (path: string, name: string, key: string, value: string) =>
  Effect.scoped(Effect.flatMap(table(path, name), (db) => Effect.promise(() => db.put(key, value))))

/** That every index says what the records say. */
const consistent = (callers: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const store = yield* Store
    expect(yield* store.counts).toEqual(yield* recount(callers))
    const jobs = (yield* Effect.forEach(callers, (caller) => listAll(caller, 50))).flat()
    for (const status of ["queued", "running", "succeeded", "failed", "cancelled"] as const) {
      const listed = (yield* Effect.forEach(callers, (caller) => listAll(caller, 50, { status }))).flat()
      expect(listed).toEqual(jobs.filter((job) => job.status === status))
    }
    const running = jobs.filter(({ status }) => status === "running").map(({ id }) => id)
    expect(new Set((yield* store.running).map(({ id }) => id))).toEqual(new Set(running))
    const ready = jobs.filter(({ retryAt, status }) => status === "queued" && retryAt === null).map(({ id }) => id)
    expect(new Set(yield* store.queued("llm", 1e6))).toEqual(new Set(ready))
    for (const job of jobs) {
      const { events } = yield* store.events(job.id, 0)
      expect(events.map(({ event }) => event)).toEqual(Arr.range(1, job.events))
      expect((yield* store.getWithInput(job.id)).input).toEqual({ prompt: "Say hello." })
    }
    return jobs
  })

describe("lmdb: the folder", () => {
  it.scoped("knows over a restart which process drained, and a later one does not inherit it", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const drained = Effect.flatMap(Store, (store) =>
        Effect.map(
          store.orphans(() => false),
          (found) => found.map(({ drained, job }) => [job.id, drained]),
        ),
      )
      const first = yield* within(path)(
        Effect.gen(function* () {
          const store = yield* Store
          const [a, b] = (yield* save({}, {})) as [JobId, JobId]
          yield* store.claim(a, "demo")
          yield* store.drain
          return [a, b] as const
        }),
      )
      yield* within(path)(
        Effect.gen(function* () {
          const store = yield* Store
          expect(yield* drained).toEqual([[first[0], true]])
          yield* store.claim(first[1], "demo")
          expect(yield* drained).toEqual([
            [first[0], true],
            [first[1], false],
          ])
        }),
      )
      // A drain of this process says nothing of the one before it, and forgets nothing of the first.
      yield* within(path)(Effect.flatMap(Store, (store) => store.drain))
      yield* within(path)(
        Effect.gen(function* () {
          const store = yield* Store
          expect(yield* drained).toEqual([
            [first[0], true],
            [first[1], false],
          ])
          for (const id of first) yield* store.settle(id, 1, succeeded)
          yield* store.drain
        }),
      )
      const noted = yield* Effect.map(table(path, "meta"), (meta) =>
        Array.from(meta.getKeys()).filter((key) => key.startsWith("drain")),
      )
      expect(noted).toHaveLength(1)
    }),
  )

  it.scoped("keeps everything, in order, over a restart", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "made.for", "it")
      const before = yield* within(path)(
        Effect.gen(function* () {
          const store = yield* Store
          const ids = (yield* save(
            { idempotency: { key: "k", fingerprint: "f" } },
            ...Arr.makeBy(20, (n) => ({ caller: n % 2 === 0 ? "ada" : "bob" })),
          )) as Array<JobId> & [JobId, JobId, JobId]
          yield* store.claim(ids[0], "demo")
          yield* store.settle(ids[0], 1, succeeded, piece("done"))
          yield* store.claim(ids[1], "demo")
          yield* store.append(ids[1], 1, piece("part"))
          yield* store.claim(ids[2], "demo")
          yield* store.settle(ids[2], 1, { _tag: "Failed", failure, retryAt: 10 })
          return { ids, jobs: yield* consistent(["ada", "bob"]), queued: yield* store.queued("llm", 99) }
        }),
      )
      expect(statSync(path).mode & 0o777).toBe(0o700)
      yield* within(path)(
        Effect.gen(function* () {
          const store = yield* Store
          expect(store.description).toBe(`lmdb (${path})`)
          expect(yield* consistent(["ada", "bob"])).toEqual(before.jobs)
          expect(yield* store.queued("llm", 99)).toEqual(before.queued)
          expect((yield* store.running).map(({ id }) => id)).toEqual([before.ids[1]])
          expect(yield* store.output(before.ids[1])).toBe("part")
          const again = submission({ idempotency: { key: "k", fingerprint: "f" } })
          expect((yield* store.create(again, roomy)).job.id).toBe(before.ids[0])
          expect((yield* store.create(submission(), roomy)).job.sequence).toBe(22)
          yield* TestClock.setTime(10)
          expect((yield* store.advance({ retentionMillis: 1e9 })).ready.map(({ id }) => id)).toEqual([before.ids[2]])
        }),
      )
    }),
  )

  it.scoped("loses nothing that was acknowledged before a kill -9, and is free at once", () =>
    Effect.gen(function* () {
      const path = yield* folder
      for (const rounds of [1, 2, 3]) {
        const child = yield* writer(path, { write: true })
        yield* child.printed(400 * rounds)
        yield* child.kill
        const acknowledged = new Map<JobId, number>()
        for (const line of child.lines.slice(1, -1)) {
          const [, id, events] = line.split(" ")
          acknowledged.set(id as JobId, Number(events))
        }
        expect(acknowledged.size).toBeGreaterThan(100)
        yield* within(path)(
          Effect.gen(function* () {
            const jobs = yield* consistent(["caller-0", "caller-1", "caller-2"])
            const events = new Map(jobs.map((job) => [job.id, job.events]))
            for (const [id, least] of acknowledged) expect(events.get(id) ?? 0).toBeGreaterThanOrEqual(least)
          }),
        )
      }
    }),
  )

  it.scoped("is refused to a second process, until the first is gone", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const first = yield* writer(path, { write: false })
      yield* first.printed(1)
      const error = yield* refusal(path)
      expect(error).toMatchObject({ _tag: "StoreLocked", path, pid: first.pid })
      expect(error.message).toContain(`process ${first.pid}`)
      expect(error.message).toContain("OFFLOAD_DATA")
      yield* first.kill
      yield* within(path)(
        Effect.gen(function* () {
          const second = yield* writer(path, { write: false })
          yield* second.printed(1)
          expect(second.lines[0]).toContain(
            `refused StoreLocked The folder '${path}' is in use by process ${process.pid}`,
          )
        }),
      )
      const third = yield* writer(path, { write: false })
      yield* third.printed(1)
      expect(third.lines).toEqual([`open ${third.pid}`])
    }),
  )

  it.scoped("is refused at once also while its owner is stopped in the middle of a write", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const owner = yield* writer(path, { write: true })
      for (const count of [50, 150, 250, 350, 450]) {
        yield* owner.printed(count)
        yield* owner.signal("SIGSTOP")
        expect(yield* refusal(path)).toMatchObject({ _tag: "StoreLocked", pid: owner.pid })
        yield* owner.signal("SIGCONT")
      }
    }),
  )

  it.scoped("is refused to the same process, and the first user goes on", () =>
    Effect.gen(function* () {
      const path = yield* folder
      yield* within(path)(
        Effect.gen(function* () {
          yield* save({})
          expect(yield* refusal(path)).toMatchObject({ _tag: "StoreLocked", pid: process.pid })
          yield* save({})
          expect(yield* listAll("ada")).toHaveLength(2)
        }),
      )
      expect(yield* within(path)(listAll("ada"))).toHaveLength(2)
    }),
  )

  describe("of an owner whose processes cannot be seen", () => {
    /** Leaves a record as a process of another container does. */
    const owned = (path: string, beat: number, bootId = ownProcess().bootId) =>
      Effect.gen(function* () {
        yield* within(path)(Store)
        const db = yield* table(path, "owner", true)
        const owner = { pid: 1, startedTicks: "1", bootId, pidNamespace: "pid:[1]" }
        yield* Effect.promise(() => db.put("owner", JSON.stringify(owner), 7))
        yield* Effect.promise(() => db.put("beat", String(beat), 0))
        return db
      })

    /** Ends when something waits for the clock: who lives is asked of the kernel before. */
    const waits = Effect.repeat(
      Effect.tap(TestClock.sleeps(), () => Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))),
      { until: Chunk.isNonEmpty },
    )

    it.scoped.each([
      { which: "is", bootId: undefined },
      { which: "of an earlier boot, or of another machine, is", bootId: "another boot" },
    ])("$which free when it has given no sign of life for 15 s", ({ bootId }) =>
      Effect.gen(function* () {
        const path = yield* folder
        yield* Effect.scoped(owned(path, 0, bootId))
        const opening = yield* Effect.fork(within(path)(save({})))
        yield* waits
        yield* TestClock.adjust(14_000)
        expect(yield* Fiber.poll(opening)).toMatchObject({ _tag: "None" })
        yield* TestClock.adjust(2000)
        yield* Fiber.join(opening)
      }),
    )

    it.scoped("is refused when it gives one", () =>
      Effect.gen(function* () {
        const path = yield* folder
        const db = yield* owned(path, 0)
        const opening = yield* Effect.fork(refusal(path))
        yield* waits
        yield* TestClock.adjust(4000)
        expect(yield* Fiber.poll(opening)).toMatchObject({ _tag: "None" })
        yield* Effect.promise(() => db.put("beat", "4000", 0))
        yield* TestClock.adjust(2000)
        expect(yield* Fiber.join(opening)).toMatchObject({ _tag: "StoreLocked", pid: 1 })
      }),
    )

    it.scoped("is refused while it listens, however long it gives no sign", () =>
      Effect.gen(function* () {
        const path = yield* folder
        yield* Effect.scoped(owned(path, 0))
        yield* Presence.listen(path, 7)
        expect(yield* refusal(path)).toMatchObject({ _tag: "StoreLocked", pid: process.pid })
      }),
    )

    it.scoped("is free at once when its process is gone that listened", () =>
      Effect.gen(function* () {
        const path = yield* folder
        yield* Effect.scoped(owned(path, 0))
        const socket = join(path, "owner-7-1.sock")
        // Ends without closing anything.
        const program = `require("node:net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))`
        spawnSync(process.execPath, ["-e", program, socket])
        expect(existsSync(socket)).toBe(true)
        yield* within(path)(save({}))
      }),
    )

    it.scoped("neither reads nor writes once it has lost the folder, and says so once", () =>
      Effect.gen(function* () {
        const path = yield* folder
        const lost = yield* Effect.makeLatch()
        yield* Effect.provide(
          Effect.gen(function* () {
            const store = yield* Store
            yield* save({})
            const db = yield* table(path, "owner", true)
            yield* Effect.promise(() => db.put("owner", "{}", 7))
            const error = yield* Effect.flip(store.create(submission(), roomy))
            expect(error).toMatchObject({ _tag: "StoreError", operation: "create", reason: "unavailable" })
            expect(error.message).toContain("another process has taken the folder")
            expect(yield* Effect.flip(store.ping)).toMatchObject({ operation: "ping" })
            expect(yield* Effect.flip(listAll("ada"))).toMatchObject({ operation: "list", reason: "unavailable" })
            yield* lost.await
          }),
          Lmdb.layer({ path, onLost: Effect.asVoid(lost.open) }),
        )
      }),
    )
  })

  it.scoped("is refused, with the reason, where it cannot be used", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "file")
      writeFileSync(path, "")
      for (const unusable of [path, join(path, "below"), "/proc/offload"]) {
        const error = yield* refusal(unusable)
        expect(error).toMatchObject({ _tag: "StoreError", operation: "open", reason: "unavailable" })
        expect(error.message).toContain(`the folder '${unusable}' cannot be used`)
      }
      const broken = yield* folder
      writeFileSync(join(broken, "data.mdb"), "no database ".repeat(1000))
      expect(yield* refusal(broken)).toMatchObject({ _tag: "StoreError", reason: "unavailable" })
    }),
  )

  it.scoped("of the first format is read on: all members, the first event, and ready jobs in two indices", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const before = yield* within(path)(
        Effect.gen(function* () {
          const store = yield* Store
          const ids = (yield* save({}, { caller: "bob" }, {}, {})) as [JobId, JobId, JobId, JobId]
          yield* store.claim(ids[0], "demo")
          yield* store.claim(ids[2], "demo")
          yield* store.settle(ids[2], 1, { _tag: "Failed", failure, retryAt: 1e9 })
          return yield* consistent(["ada", "bob"])
        }),
      )
      for (const job of before) {
        const { caller, createdAt, id, resource, retryAt, sequence, status } = job
        yield* overwrite(path, "jobs", id, JSON.stringify(job))
        const first = { type: "status", event: 1, at: createdAt, status: "queued", attempt: 0, error: null }
        yield* overwrite(path, "events", Key.key(id, 1), JSON.stringify(first))
        if (status === "queued" && retryAt === null) {
          yield* overwrite(path, "index", Key.key(caller, resource, status, sequence), id)
        }
      }
      yield* overwrite(path, "meta", "format", "1")
      // The second time, it is of the format of today.
      for (const _ of ["first", "second"]) {
        expect(yield* within(path)(consistent(["ada", "bob"]))).toEqual(before)
      }
      yield* within(path)(
        Effect.gen(function* () {
          const store = yield* Store
          for (const id of yield* store.queued("llm", 10)) yield* store.claim(id, "demo")
          expect((yield* consistent(["ada", "bob"])).map(({ status }) => status).sort()).toEqual([
            "queued",
            "running",
            "running",
            "running",
          ])
        }),
      )
    }),
  )

  it.scoped("of the version before is read on: its idempotency keys answer, and count until a day after the end", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const keyed = () => submission({ idempotency: { key: "k", fingerprint: "new", earlierFingerprint: () => "old" } })
      const id = yield* within(path)(
        Effect.flatMap(Store, (store) => Effect.map(store.create(keyed(), roomy), ({ job }) => job.id)),
      )
      yield* overwrite(
        path,
        "idempotency",
        Record.idempotencyKey("ada", "k"),
        JSON.stringify({ id, fingerprint: "old", at: 0 }),
      )
      yield* within(path)(
        Effect.gen(function* () {
          const store = yield* Store
          yield* TestClock.adjust(3 * 86_400_000)
          expect(yield* store.create(keyed(), roomy)).toMatchObject({ created: false, job: { id } })
          yield* store.claim(id, "demo")
          yield* store.settle(id, 1, succeeded)
          yield* store.remove(id)
          expect(yield* Effect.flip(store.create(keyed(), roomy))).toMatchObject({ _tag: "JobGone", id })
        }),
      )
    }),
  )

  it.scoped(
    "knows over a restart how large its jobs are, and forgets the size of what an earlier version removed",
    () =>
      Effect.gen(function* () {
        const path = yield* folder
        const limits = { ...roomy, maxBytesPerCaller: 35_000 }
        const sized = () => submission({ input: { prompt: "x".repeat(10_000) } })
        const create = (count: number) =>
          Effect.flatMap(Store, (store) =>
            Effect.forEach(Arr.range(1, count), () => Effect.either(store.create(sized(), limits))),
          ).pipe(Effect.map((all) => all.filter(({ _tag }) => _tag === "Right").length))
        expect(yield* within(path)(create(2))).toBe(2)
        yield* overwrite(path, "meta", Key.key("bytes", "ada", makeId(0)), "10000")
        expect(yield* within(path)(create(3))).toBe(1)
        const sizes = yield* Effect.scoped(
          Effect.map(table(path, "meta"), (meta) =>
            Array.from(meta.getKeys()).filter((key) => key.startsWith("bytes")),
          ),
        )
        expect(sizes).toHaveLength(3)
      }),
  )

  it.scoped("forgets the use of a key a day after the end of its job", () =>
    Effect.gen(function* () {
      const path = yield* folder
      yield* within(path)(
        Effect.gen(function* () {
          const store = yield* Store
          for (const key of ["a", "b"]) {
            const { job } = yield* store.create(submission({ idempotency: { key, fingerprint: "f" } }), roomy)
            yield* store.claim(job.id, "demo")
            yield* store.settle(job.id, 1, succeeded)
            yield* store.remove(job.id)
          }
          yield* TestClock.adjust(86_400_000)
          yield* store.create(submission({ idempotency: { key: "b", fingerprint: "f" } }), roomy)
          yield* store.advance({ retentionMillis: 0 })
        }),
      )
      const keys = (name: string) => Effect.scoped(Effect.map(table(path, name), (rows) => Array.from(rows.getKeys())))
      expect(yield* keys("idempotency")).toEqual([Record.idempotencyKey("ada", "b")])
      expect(yield* keys("timers")).toEqual([])
    }),
  )

  it.scoped("of another format is refused", () =>
    Effect.gen(function* () {
      const path = yield* folder
      yield* within(path)(Store)
      yield* overwrite(path, "meta", "format", "99")
      expect(yield* refusal(path)).toMatchObject({ _tag: "StoreError", operation: "open", reason: "malformed" })
    }),
  )
})

describe("lmdb: a record that cannot be read", () => {
  it.scoped("is an error where it is asked for, and is passed over elsewhere", () =>
    Effect.gen(function* () {
      const path = yield* folder
      const ids = (yield* within(path)(
        Effect.gen(function* () {
          const store = yield* Store
          const ids = (yield* save({}, {}, {}, {}, {})) as [JobId, JobId, JobId, JobId, JobId]
          yield* store.claim(ids[0], "demo")
          yield* store.settle(ids[0], 1, { _tag: "Failed", failure, retryAt: 10 })
          yield* store.claim(ids[1], "demo")
          return ids
        }),
      )) as [JobId, JobId, JobId, JobId, JobId]
      yield* overwrite(path, "jobs", ids[0], "no json, but a secret")
      yield* overwrite(path, "jobs", ids[1], '{"id":"a secret"}')
      yield* overwrite(path, "inputs", ids[2], "[]")
      yield* within(path)(
        Effect.gen(function* () {
          const store = yield* Store
          for (const id of ids.slice(0, 2)) {
            for (const asked of [store.get(id), store.events(id, 0), store.cancel(id), store.awaitEvent(id, 0)]) {
              const error = yield* Effect.flip<unknown, { readonly message: string }, never>(asked)
              expect(error).toMatchObject({ _tag: "StoreError", reason: "malformed" })
              expect(error.message).toContain(id)
              expect(error.message).not.toContain("secret")
            }
          }
          expect(yield* Effect.flip(store.claim(ids[2], "demo"))).toMatchObject({ reason: "malformed" })
          expect((yield* store.get(ids[2])).status).toBe("queued")
          expect((yield* listAll("ada", 2)).map(({ id }) => id)).toEqual([ids[4], ids[3], ids[2]])
          expect(yield* store.running).toEqual([])
          expect((yield* store.counts).get("llm")).toMatchObject({ queued: 4, running: 1 })
          yield* TestClock.setTime(10)
          expect(yield* store.advance({ retentionMillis: 0 })).toEqual({ ready: [], expired: [], removed: 0 })
          expect((yield* store.claim(ids[3], "demo"))?.job.status).toBe("running")
          yield* store.create(submission({ id: makeId(1) }), roomy)
        }),
      )
    }),
  )
})

describe("lmdb: a full disk", () => {
  /** Mounts a small file system for as long as the scope lasts, or says why that cannot be. */
  const mount = (path: string) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        if (process.getuid?.() !== 0) return "only root can mount a small file system"
        try {
          execFileSync("mount", ["-t", "tmpfs", "-o", "size=12m", "tmpfs", path], { stdio: "pipe" })
          return null
        } catch (error) {
          return `no small file system can be mounted: ${String(error)}`
        }
      }),
      (refused) => Effect.sync(() => (refused === null ? execFileSync("umount", [path]) : null)),
    )

  it.scoped("fails what does not fit, changes nothing, and goes on when there is room", (context) =>
    Effect.gen(function* () {
      const path = yield* folder
      const reason = yield* mount(path)
      if (reason !== null) return context.skip(reason)
      const ballast = join(path, "ballast")
      writeFileSync(ballast, Buffer.alloc(5_000_000))
      yield* within(path)(
        Effect.gen(function* () {
          const store = yield* Store
          const large = () => store.create(submission({ input: { prompt: "x".repeat(250_000) } }), roomy)
          const results = yield* Effect.forEach(Arr.range(1, 40), () => Effect.either(large()))
          const failed = results.flatMap((result) => (result._tag === "Left" ? [result.left] : []))
          expect(failed.length).toBeGreaterThan(0)
          expect(failed[0]).toMatchObject({ _tag: "StoreFull", scope: "machine" })
          const saved = results.length - failed.length
          expect(saved).toBeGreaterThan(0)
          expect((yield* store.counts).get("llm")?.queued).toBe(saved)
          expect(yield* listAll("ada")).toHaveLength(saved)
          rmSync(ballast)
          yield* large()
          yield* store.ping
          yield* store.create(submission(), { maxQueued: saved + 2 })
          expect(yield* Effect.flip(store.create(submission(), { maxQueued: saved + 2 }))).toMatchObject({
            _tag: "QueueFull",
          })
        }),
      )
    }),
  )

  /** Takes all that is left of a disk, as another program does. */
  const takeAll = (path: string) =>
    Effect.sync(() => {
      const file = openSync(join(path, "taken"), "a")
      try {
        for (;;) writeSync(file, Buffer.alloc(4096))
      } catch (error) {
        expect(error).toMatchObject({ code: "ENOSPC" })
      } finally {
        closeSync(file)
      }
    })

  it.scoped(
    "lets jobs end, be cancelled and removed to its last byte, also after a start, and none be added",
    (context) =>
      Effect.gen(function* () {
        const path = yield* folder
        const reason = yield* mount(path)
        if (reason !== null) return context.skip(reason)
        const isFull = { _tag: "StoreError", reason: "unavailable", full: true, unmade: true }
        const ids = yield* within(path)(
          Effect.gen(function* () {
            const store = yield* Store
            yield* Effect.promise(() => waitUntil(() => existsSync(join(path, "reserve"))))
            const ids: Array<JobId> = []
            for (;;) {
              const saved = yield* Effect.either(
                store.create(submission({ input: { prompt: "x".repeat(250_000) }, metadata: { a: "b" } }), roomy),
              )
              if (saved._tag === "Left") break
              ids.push(saved.right.job.id)
            }
            expect(ids.length).toBeGreaterThan(5)
            const [running, queued, ended] = ids as [JobId, JobId, JobId]
            yield* store.claim(running, "demo")
            yield* store.cancel(ended)
            yield* takeAll(path)
            expect(yield* Effect.flip(store.create(submission(), roomy))).toMatchObject({ _tag: "StoreFull" })
            expect(yield* Effect.flip(store.append(running, 1, piece("some")))).toMatchObject(isFull)
            expect(yield* Effect.flip(store.ping)).toMatchObject(isFull)
            yield* store.settle(running, 1, succeeded, piece("some output"))
            yield* store.cancel(queued)
            yield* store.remove(ended)
            // What a write has freed can be used by the second one after it.
            yield* store.cancel(ids[4] as JobId)
            yield* takeAll(path)
            expect((yield* store.claim(ids[3] as JobId, "demo"))?.job.status).toBe("running")
            return ids
          }),
        )
        yield* takeAll(path)
        yield* within(path)(
          Effect.gen(function* () {
            const store = yield* Store
            const [running, queued, , claimed, ...others] = ids as [JobId, JobId, JobId, JobId, ...ReadonlyArray<JobId>]
            expect(yield* store.output(running)).toBe("some output")
            yield* store.settle(claimed, 1, { _tag: "Orphaned", retryAt: 0 })
            for (const id of others) yield* store.cancel(id)
            yield* takeAll(path)
            for (const id of [running, queued, ...others]) yield* store.remove(id)
            expect((yield* store.counts).get("llm")).toMatchObject({ queued: 1, cancelled: 0 })
            expect(yield* Effect.flip(store.create(submission(), roomy))).toMatchObject({ _tag: "StoreFull" })
            rmSync(join(path, "taken"))
            yield* store.ping
            yield* store.create(submission({ input: { prompt: "x".repeat(250_000) } }), roomy)
          }),
        )
      }),
  )
})

describe("lmdb: a folder that is deleted or replaced while it is in use", () => {
  it.scoped("takes no job from then on, and says so", () =>
    Effect.gen(function* () {
      const path = yield* folder
      for (const replace of [false, true]) {
        const lines: Array<string> = []
        const log = Logger.replace(
          Logger.defaultLogger,
          Logger.make(({ message }) => void lines.push(String(message))),
        )
        yield* within(path)(
          Effect.gen(function* () {
            const store = yield* Store
            const { job } = yield* store.create(submission(), roomy)
            rmSync(path, { recursive: true })
            if (replace) {
              mkdirSync(path)
              writeFileSync(join(path, "data.mdb"), "")
            }
            for (const write of [store.create(submission(), roomy), store.ping, store.cancel(job.id)]) {
              const error = yield* Effect.flip<unknown, { readonly message: string }, never>(write)
              expect(error).toMatchObject({ _tag: "StoreError", reason: "unavailable", unmade: true })
              expect(error.message).toContain("was deleted or replaced")
            }
            yield* Effect.promise(() => waitUntil(() => lines.some((line) => line.includes("no job is taken on"))))
          }),
        ).pipe(Effect.provide(log))
        rmSync(path, { recursive: true, force: true })
      }
    }),
  )
})
