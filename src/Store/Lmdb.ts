/** Jobs in a folder, by lmdb: durable, for one process at a time. */
import { resolve } from "node:path"
import { Effect, Layer } from "effect"
import type { RootDatabase } from "lmdb"
import { Store, type StoreError } from "../Store.js"
import { type Kv, KvError, type Op, type Range, type Table } from "./Kv.js"
import * as KvStore from "./KvStore.js"
import * as Folder from "./Lmdb/Folder.js"
import * as GroupCommit from "./Lmdb/GroupCommit.js"
import * as Guard from "./Lmdb/Guard.js"
import * as Owner from "./Lmdb/Owner.js"
import * as Room from "./Lmdb/Room.js"
import { type Strings, unavailable } from "./Lmdb/Write.js"
import { named } from "./Named.js"

export { StoreLocked } from "./Lmdb/Owner.js"

/** lmdb takes 1978 bytes and leaves a commit half made where a key is longer. */
const maxKeyLength = 1900

/**
 * The store in the folder `path`, which is made, readable to its owner alone, if it does not exist. A folder has one
 * owner: a second process, or a second layer, gets `StoreLocked`. The folder of a process that died is free at once.
 *
 * An owner that was held up for so long that it was taken for dead can neither read nor write any more: each operation
 * fails, and `onLost` is run once. Default: nothing else is done.
 */
export const layer = ({
  onLost = Effect.void,
  ...options
}: Options): Layer.Layer<Store, Owner.StoreLocked | StoreError> =>
  Layer.scoped(
    Store,
    Effect.gen(function* () {
      const path = resolve(options.path)
      yield* Owner.refuseHeld(path)
      const dead = yield* Effect.scoped(
        Effect.flatMap(Folder.peek(path), (owners) =>
          owners === null ? Effect.succeed(null) : Owner.awaitFree(owners, path),
        ),
      ).pipe(Effect.mapError((error) => (error._tag === "KvError" ? Owner.orLocked(path, error) : error)))
      const root = yield* Folder.use(path)
      const { databases, owners } = yield* Effect.try({
        try: () => ({ owners: Folder.owners(root), databases: openTables(root) }),
        catch: (cause) => unavailable(`the folder '${path}' cannot be opened`, cause),
      })
      const guard = Guard.make(path)
      const room = Room.make(path, () => Folder.freePages(root, [owners, ...Object.values(databases)]))
      const owned = yield* Owner.acquire(owners, path, dead, room)
      yield* Effect.forkScoped(Effect.zipRight(owned.lost, Effect.zipRight(logLost(path), onLost)))
      const group = yield* Effect.acquireRelease(
        Effect.sync(() => GroupCommit.make({ owned, guard, path, room, write: writer(databases) })),
        ({ close }) => Effect.sync(close),
      )
      yield* Guard.watch(guard, room, path)
      return yield* KvStore.make(makeKv(databases, owned, group, path), `lmdb (${path})`)
    }).pipe(named("open")),
  )

export interface Options {
  readonly path: string
  readonly onLost?: Effect.Effect<void>
}

const logLost = (path: string) =>
  Effect.annotateLogs(Effect.logError(`${Owner.takenBy(path)}: it runs the jobs now`), { module: "Store" })

type Databases = { readonly [table in Table]: Strings }

const openTables = (root: RootDatabase<string, string>): Databases => {
  const table = (name: Table) => root.openDB<string, string>(name, { encoding: "string" })
  return {
    jobs: table("jobs"),
    inputs: table("inputs"),
    events: table("events"),
    index: table("index"),
    ready: table("ready"),
    running: table("running"),
    timers: table("timers"),
    idempotency: table("idempotency"),
    meta: table("meta"),
  }
}

const makeKv = (
  databases: Databases,
  { isOurs }: Pick<Owner.Ownership, "isOurs">,
  group: GroupCommit.GroupCommit,
  path: string,
): Kv => {
  const unreadable = (cause: unknown) => unavailable(`the folder '${path}' cannot be read`, cause)
  const own = (table: Table) => {
    if (!isOurs()) throw new Error(Owner.takenBy(path))
    return databases[table]
  }
  return {
    get: (table, key) => {
      try {
        return own(table).get(key)
      } catch (cause) {
        throw unreadable(cause)
      }
    },
    *keys(table, range) {
      try {
        yield* own(table).getKeys(toNative(range))
      } catch (cause) {
        throw unreadable(cause)
      }
    },
    *entries(table, range) {
      try {
        yield* own(table).getRange(toNative(range))
      } catch (cause) {
        throw unreadable(cause)
      }
    },
    count: (table, { limit, ...range }) => {
      try {
        const database = own(table)
        // lmdb counts a range to its end, whatever the limit, but steps over the first entries of one as fast.
        if (limit !== undefined) {
          if (limit <= 0) return 0
          for (const _ of database.getKeys({ ...toNative(range), offset: limit - 1, limit: 1 })) return limit
        }
        return database.getKeysCount(toNative(range))
      } catch (cause) {
        throw unreadable(cause)
      }
    },
    commit: (ops, done, isGrowth) => {
      const long = ops.find(({ key }) => key.length > maxKeyLength)
      if (long === undefined) group.commit(ops, done, isGrowth)
      else done(new KvError({ reason: "unavailable", detail: `a key of '${long.table}' is too long`, unmade: true }))
    },
  }
}

const writer = (databases: Databases) => (op: Op) => {
  const database = databases[op.table]
  // Their promises say nothing that the one of the whole commit does not.
  if (op._tag === "Put") void database.put(op.key, op.value)
  else void database.remove(op.key)
}

/** Backwards, lmdb starts at the upper end. */
const toNative = ({ end, limit, reverse = false, start }: Range) => ({
  ...(reverse ? { start: end, exclusiveStart: true, end: start, inclusiveEnd: true, reverse } : { start, end }),
  ...(limit === undefined ? {} : { limit }),
})
