/** A folder with an lmdb database in it. */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readSync,
  statfsSync,
  statSync,
} from "node:fs"
import { dirname, join } from "node:path"
import { Effect, Schema, type Scope } from "effect"
import { open, type RootDatabase, type RootDatabaseOptionsWithPath } from "lmdb"
import { keepFromChildren } from "../../Descriptors.js"
import type { KvError } from "../Kv.js"
import type { FreePages } from "./Room.js"
import { type Strings, unavailable } from "./Write.js"

type Root = RootDatabase<string, string>

const closeMillis = 2000

const options = (path: string) =>
  ({
    path,
    // Else a name with a dot in it is taken for a file.
    noSubdir: false,
    // A write is answered when it is on the disk, not when it is on its way.
    overlappingSync: false,
    // Commits are blocks of their own already; the blocks that lmdb would put around them have a promise that nobody
    // can get hold of, and its rejection, by a full disk, would end the process.
    eventTurnBatching: false,
    maxDbs: 16,
    encoding: "string",
    // Not in lmdb's types: nobody else reads prompts, even in a folder that others may enter.
    permissionsMode: 0o600,
  }) satisfies RootDatabaseOptionsWithPath & { readonly permissionsMode: number }

/** Opens the folder for writing, for as long as the scope lasts, and makes it if it does not exist. */
export const use = (path: string): Effect.Effect<Root, KvError, Scope.Scope> =>
  opened(path, () => {
    makeFolder(path)
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK)
    checkFile(join(path, "data.mdb"))
    checkRoom(path)
    const root = open<string, string>(options(path))
    keepFromChildren(join(path, "data.mdb"))
    return root
  })

/**
 * The table of owners, to read it before the folder is opened for writing: that waits for whoever is just writing, and
 * for ever where the writer was stopped in the middle. `null`: the folder has none yet.
 */
export const peek = (path: string): Effect.Effect<Strings | null, KvError, Scope.Scope> => {
  if (!existsSync(join(path, "data.mdb"))) return Effect.succeed(null)
  return Effect.map(
    opened(path, () => {
      checkFile(join(path, "data.mdb"))
      return open<string, string>({ ...options(path), readOnly: true })
    }),
    // `openDB` gives nothing, against its type, where there is no such table.
    (root) => owners(root) ?? null,
  )
}

/** How many pages of lmdb's file nothing uses, by what each of its tables uses. Takes 0.1 ms. */
export const freePages = (root: Root, tables: ReadonlyArray<Strings>): FreePages => {
  const { free, lastPageNumber, lastTxnId, root: main } = Schema.decodeUnknownSync(RootStats)(root.getStats())
  const used = [free, main, ...tables.map((table) => Schema.decodeUnknownSync(Stats)(table.getStats()))].reduce(
    (sum, { overflowPages, treeBranchPageCount, treeLeafPageCount }) =>
      sum + overflowPages + treeBranchPageCount + treeLeafPageCount,
    0,
  )
  return { pages: Math.max(0, lastPageNumber + 1 - metaPages - used), transaction: lastTxnId }
}

const metaPages = 2

/** What lmdb tells of a table; its types say nothing of it. */
const Stats = Schema.Struct({
  overflowPages: Schema.Number,
  treeBranchPageCount: Schema.Number,
  treeLeafPageCount: Schema.Number,
})
const RootStats = Schema.Struct({ free: Stats, root: Stats, lastPageNumber: Schema.Number, lastTxnId: Schema.Number })

export const owners = (root: Root): Strings =>
  root.openDB<string, string>("owner", { encoding: "string", useVersions: true })

const opened = (path: string, open: () => Root) =>
  Effect.acquireRelease(
    Effect.try({ try: open, catch: (cause) => unavailable(`the folder '${path}' cannot be used`, cause) }),
    (root) =>
      Effect.tryPromise({
        // lmdb waits for what is being written, and a disk that hangs must not keep the process from ending.
        try: () => Promise.race([root.close(), new Promise((end) => setTimeout(end, closeMillis).unref())]),
        catch: (cause) => unavailable(`the folder '${path}' was not closed`, cause),
      }).pipe(
        Effect.catchAll((error) => Effect.logWarning(error.detail)),
        Effect.annotateLogs({ module: "Store" }),
      ),
  )

/** Room for the tables of a new database. */
const newBytes = 2 ** 20

const checkRoom = (path: string): void => {
  if (existsSync(join(path, "data.mdb"))) return
  const { bavail, bsize } = statfsSync(path)
  if (bavail * bsize < newBytes) throw new Error("its disk is full")
}

/** Not `recursive`: in a file system that takes no folders, such as /proc, Node then tries for ever. */
const makeFolder = (path: string): void => {
  if (existsSync(path)) return
  if (!existsSync(dirname(path))) makeFolder(dirname(path))
  mkdirSync(path, { mode: 0o700 })
}

/** How the first page of a database begins, after its header. */
const magic = Buffer.from([0xde, 0xc0, 0xef, 0xbe])
const leastBytes = 2 * 4096

/** lmdb does not refuse a file that is no database, or only the beginning of one, but ends the process. */
const checkFile = (path: string): void => {
  if (!existsSync(path) || statSync(path).size === 0) return
  const head = Buffer.alloc(64)
  const file = openSync(path, "r")
  try {
    readSync(file, head)
  } finally {
    closeSync(file)
  }
  if (!head.includes(magic) || statSync(path).size < leastBytes) throw new Error(`'${path}' is not a database`)
}
