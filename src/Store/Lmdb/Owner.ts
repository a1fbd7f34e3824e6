/**
 * One process at a time owns a folder. lmdb itself lets several processes write, so the owner's name stands in a
 * record, taken by compare-and-set and checked by each commit: whoever lost the folder cannot write to it any more.
 */
import { randomUUID } from "node:crypto"
import { Clock, Effect, Either, Schedule, Schema, type Scope } from "effect"
import { KvError, type Op, put, reading } from "../Kv.js"
import { decodeProcess, isAlive, ownProcess, type Process } from "../Process.js"
import * as Presence from "./Presence.js"
import type { Room } from "./Room.js"
import { type Condition, type Strings, unavailable, writeWhen } from "./Write.js"

/** Another process uses the folder. */
export class StoreLocked extends Schema.TaggedError<StoreLocked>()("StoreLocked", {
  path: Schema.String,
  /** As it is numbered where it runs, which may be another container. */
  pid: Schema.Number,
}) {
  override get message(): string {
    return `The folder '${this.path}' is in use by process ${this.pid}. Stop that process, or set OFFLOAD_DATA to another folder.`
  }
}

/** Refuses a folder whose owner listens. It asks lmdb nothing, which an owner that is held up may keep waiting. */
export const refuseHeld = (path: string): Effect.Effect<void, StoreLocked> =>
  Effect.flatMap(Presence.listener(path), (pid) => (pid === null ? Effect.void : new StoreLocked({ path, pid })))

/**
 * lmdb lets no two processes of one number read a folder, as they are in two containers: the first of them has a lock
 * that the other one wants.
 */
export const orLocked = (path: string, error: KvError): StoreLocked | KvError =>
  error.detail.includes("No transaction to renew") ? new StoreLocked({ path, pid: process.pid }) : error

/** How often an owner shows that it lives, to processes that cannot find out otherwise. */
const beatMillis = 5000
/** After how long without a beat it is taken for dead. */
const deadMillis = 15_000
/** For how long a look at the owner's record is believed. A process that was held up has been for longer. */
const lookMillis = 250

/** What an owner is told that was held up until it was taken for dead. */
export const takenBy = (path: string): string => `another process has taken the folder '${path}'`

/** A folder as its owner has it. */
export interface Ownership {
  /** Holds while the folder is ours. */
  readonly condition: Condition
  /** Whether it is, as nearly as a reader can know: to be asked before anything is told of the folder. */
  readonly isOurs: () => boolean
  /** Says that a write has found the folder to be another's. */
  readonly lose: () => void
  /** Ends when it is known that the folder is another's; it never is ours again. */
  readonly lost: Effect.Effect<void>
}

/**
 * Takes the folder for as long as the scope lasts, at once from an owner that is known to be dead. Waits, 15 s at most,
 * only for an owner of which nobody can say whether it lives: one of another machine, or one whose processes are hidden
 * on a file system without sockets.
 */
export const acquire = (db: Strings, path: string, dead: Dead | null, room: Room) =>
  Effect.acquireRelease(take(db, path, dead, room), ({ condition }) =>
    inRoom(
      room,
      path,
      writeWhen(condition, () => db.remove("owner")),
    ).pipe(
      // The next process finds out by itself that this one is gone.
      Effect.catchAll((error) => Effect.logWarning(`the folder was not handed back: ${error.detail}`)),
      Effect.annotateLogs({ module: "Store" }),
    ),
  ).pipe(Effect.tap((ownership) => Effect.forkScoped(beat(db, ownership, path, room))))

/** A write of the owner's record and its beat. */
const sample: ReadonlyArray<Op> = [put("meta", "owner", " ".repeat(200)), put("meta", "beat", " ".repeat(40))]

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

/** Waits until nobody owns the folder, as `acquire` does, without taking it; answers who is dead. */
export const awaitFree = (db: Strings, path: string): Effect.Effect<Dead | null, StoreLocked | KvError> =>
  Effect.flatMap(readOwner(db), (found) => awaitDeath(db, path, found, ownProcess()))

/** An owner, and the last beat that it gave before it was taken for dead. */
export interface Dead {
  readonly version: number
  readonly beat: string
}

const take = (
  db: Strings,
  path: string,
  dead: Dead | null,
  room: Room,
): Effect.Effect<Ownership, StoreLocked | KvError, Scope.Scope> =>
  Effect.gen(function* () {
    const own = yield* Effect.sync(ownProcess)
    for (;;) {
      const found = yield* readOwner(db)
      const isDead = dead !== null && found?.version === dead.version && (yield* readBeat(db)) === dead.beat
      if (!isDead) yield* Effect.interruptible(awaitDeath(db, path, found, own))
      // Never the same twice, so that a commit of an earlier owner cannot pass for one of ours.
      const version = 1 + Math.floor(Math.random() * Number.MAX_SAFE_INTEGER)
      // First of all: an owner that does not listen would be taken for dead.
      yield* Presence.listen(path, version)
      const free = { db, key: "owner", version: found?.version ?? null }
      const write = writeWhen(free, () => {
        db.put("owner", JSON.stringify(own), version)
        db.put("beat", randomUUID(), 0)
      })
      const taken = yield* inRoom(room, path, write)
      if (!taken) continue
      yield* Effect.sync(() => Presence.sweep(path, version))
      return ownershipOf(db, version)
    }
  })

const ownershipOf = (db: Strings, version: number): Ownership => {
  const lost = Effect.unsafeMakeLatch()
  let isLost = false
  let lookedAt = performance.now()
  const lose = () => {
    isLost = true
    lost.unsafeOpen()
  }
  return {
    condition: { db, key: "owner", version },
    isOurs: () => {
      // A record that cannot be read says nothing of its owner: whoever reads it next finds out.
      if (isLost || performance.now() - lookedAt < lookMillis) return !isLost
      if (db.getEntry("owner")?.version !== version) lose()
      lookedAt = performance.now()
      return !isLost
    },
    lose,
    lost: lost.await,
  }
}

type Found = { readonly value: string; readonly version?: number }

const readOwner = (db: Strings): Effect.Effect<Found | undefined, KvError> =>
  reading(() => guarded(() => db.getEntry("owner")))

/** Succeeds when the owner is dead or has let go. */
const awaitDeath = (
  db: Strings,
  path: string,
  found: Found | undefined,
  own: Process,
): Effect.Effect<Dead | null, StoreLocked | KvError> =>
  Effect.gen(function* () {
    const owner = found === undefined ? null : Either.getOrNull(decodeProcess(found.value))
    // Nobody can be asked about an owner that cannot be read.
    if (found === undefined || owner === null) return null
    const { version = 0 } = found
    const locked = new StoreLocked({ path, pid: owner.pid })
    const beat = yield* readBeat(db)
    const alive = yield* livesOn(path, owner, version, own)
    if (alive === true) return yield* locked
    if (alive === false) return { version, beat }
    // Of clocks that may be set, and may be another machine's, nothing is believed.
    const since = yield* monotonicMillis
    while ((yield* monotonicMillis) - since <= deadMillis) {
      if ((yield* readBeat(db)) !== beat) return yield* locked
      if ((yield* readOwner(db))?.version !== version) return null
      yield* Effect.sleep(500)
    }
    return { version, beat }
  })

/** `null`: that cannot be told. */
const livesOn = (path: string, owner: Process, version: number, own: Process): Effect.Effect<boolean | null> =>
  // The kernel of another machine, or of an earlier boot, tells nothing of it.
  owner.bootId === own.bootId
    ? Effect.map(Presence.isListening(path, version), (is) => is ?? isAlive(owner, own))
    : Effect.succeed(null)

const monotonicMillis = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos / 1_000_000n))

const readBeat = (db: Strings) =>
  Effect.map(
    reading(() => guarded(() => db.get("beat"))),
    (beat) => beat ?? "",
  )

/** Each beat is another one than that before. */
const beat = (db: Strings, { condition, lose }: Ownership, path: string, room: Room) =>
  Effect.suspend(() =>
    inRoom(
      room,
      path,
      writeWhen(condition, () => db.put("beat", randomUUID(), 0)),
    ),
  ).pipe(
    Effect.tap((held) => (held ? Effect.void : Effect.sync(lose))),
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
