/**
 * One process at a time owns a folder. lmdb itself lets several processes write, so the owner's name stands in a
 * record, taken by compare-and-set and checked by each commit: whoever lost the folder cannot write to it any more.
 */
import { Clock, Effect, Either, Schedule, Schema } from "effect"
import { KvError, type Op, put, reading } from "../Kv.js"
import { decodeProcess, isAlive, ownProcess, type Process } from "../Process.js"
import type { Room } from "./Room.js"
import { type Condition, type Strings, unavailable, writeWhen } from "./Write.js"

/** Another process uses the folder. */
export class StoreLocked extends Schema.TaggedError<StoreLocked>()("StoreLocked", {
  path: Schema.String,
  pid: Schema.Number,
}) {
  override get message(): string {
    return `The folder '${this.path}' is in use by process ${this.pid}. Stop that process, or set OFFLOAD_DATA to another folder.`
  }
}

/** How often an owner shows that it lives, to processes that cannot see it. */
const beatMillis = 5000
/** After how long without a beat it is taken for dead. */
const deadMillis = 15_000

/**
 * Takes the folder, for as long as the scope lasts, and gives the condition that holds while it is ours. Waits, at
 * most 15 s, only for an owner whose processes are hidden from us, such as one in another container.
 */
export const acquire = (db: Strings, path: string, room: Room) =>
  Effect.acquireRelease(take(db, path, room), (condition) =>
    inRoom(
      room,
      path,
      writeWhen(condition, () => db.remove("owner")),
    ).pipe(
      // The next process finds out by itself that this one is gone.
      Effect.catchAll((error) => Effect.logWarning(`the folder was not handed back: ${error.detail}`)),
      Effect.annotateLogs({ module: "Store" }),
    ),
  ).pipe(Effect.tap((condition) => Effect.forkScoped(beat(db, condition, path, room))))

/** A write of the owner's record and its beat. */
const sample: ReadonlyArray<Op> = [put("meta", "owner", " ".repeat(200)), put("meta", "beat", " ".repeat(20))]

/** Makes a write where it fits. */
const inRoom = <A>(room: Room, path: string, write: Effect.Effect<A, KvError>): Effect.Effect<A, KvError> =>
  Effect.suspend(() =>
    room.look().take(sample, false)
      ? write
      : new KvError({
          reason: "unavailable",
          detail: `the disk of the folder '${path}' is full: there is no room to say who uses it. Make a few megabytes of room.`,
          unmade: true,
          full: true,
        }),
  )

/** Waits until nobody owns the folder, as `acquire` does, without taking it. */
export const awaitFree = (db: Strings, path: string): Effect.Effect<void, StoreLocked | KvError> =>
  Effect.flatMap(
    reading(() => guarded(() => db.getEntry("owner"))),
    (found) => (found === undefined ? Effect.void : awaitDeath(db, path, found, ownProcess())),
  )

const take = (db: Strings, path: string, room: Room): Effect.Effect<Condition, StoreLocked | KvError> =>
  Effect.gen(function* () {
    const own = yield* Effect.sync(ownProcess)
    for (;;) {
      const found = yield* reading(() => guarded(() => db.getEntry("owner")))
      if (found !== undefined) yield* Effect.interruptible(awaitDeath(db, path, found, own))
      const now = yield* Clock.currentTimeMillis
      // Never the same twice, so that a commit of an earlier owner cannot pass for one of ours.
      const version = 1 + Math.floor(Math.random() * Number.MAX_SAFE_INTEGER)
      const free = { db, key: "owner", version: found?.version ?? null }
      const write = writeWhen(free, () => {
        db.put("owner", JSON.stringify(own), version)
        db.put("beat", String(now), 0)
      })
      const taken = yield* inRoom(room, path, write)
      if (taken) return { db, key: "owner", version }
    }
  })

type Found = { readonly value: string; readonly version?: number }

/** Succeeds when the owner is dead or has let go. */
const awaitDeath = (
  db: Strings,
  path: string,
  found: Found,
  own: Process,
): Effect.Effect<void, StoreLocked | KvError> =>
  Effect.gen(function* () {
    const owner = Either.getOrNull(decodeProcess(found.value))
    // Nobody can be asked about an owner that cannot be read.
    if (owner === null) return
    const locked = new StoreLocked({ path, pid: owner.pid })
    const alive = isAlive(owner, own)
    if (alive === true) return yield* locked
    if (alive === false) return
    const first = yield* readBeat(db)
    // Its clock may have been ahead of ours.
    const since = Math.min(first, yield* Clock.currentTimeMillis)
    for (;;) {
      const beat = yield* readBeat(db)
      if (beat !== first) return yield* locked
      const now = yield* Clock.currentTimeMillis
      if (now - since > deadMillis) return
      const current = yield* reading(() => guarded(() => db.getEntry("owner")))
      if (current?.version !== found.version) return
      yield* Effect.sleep(500)
    }
  })

const readBeat = (db: Strings) =>
  Effect.map(
    reading(() => guarded(() => db.get("beat"))),
    (beat) => Number(beat ?? 0),
  )

const beat = (db: Strings, condition: Condition, path: string, room: Room) =>
  Clock.currentTimeMillis.pipe(
    Effect.flatMap((now) =>
      inRoom(
        room,
        path,
        writeWhen(condition, () => db.put("beat", String(now), 0)),
      ),
    ),
    Effect.tap((held) => (held ? Effect.void : Effect.logError("another process has taken the folder of the store"))),
    Effect.catchAll((error) => Effect.logWarning(`the sign of life was not written: ${error.detail}`)),
    Effect.annotateLogs({ module: "Store" }),
    Effect.delay(beatMillis),
    Effect.repeat(Schedule.forever),
  )

const guarded = <A>(read: () => A): A => {
  try {
    return read()
  } catch (cause) {
    throw unavailable("the folder cannot be read", cause)
  }
}
