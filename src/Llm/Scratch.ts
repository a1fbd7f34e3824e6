/**
 * The folders of attempts: each has an empty working folder and one for temporary files, which nobody else may enter
 * and which are removed at its end.
 *
 * They are in a folder of this installation's own, `offload-<installation>`, in `TMPDIR`; where that is not set, in
 * `/tmp`, or else in `OFFLOAD_DATA`.
 */
import { execFile } from "node:child_process"
import { chmodSync, chownSync, lstatSync, mkdirSync, mkdtempSync, rmdirSync } from "node:fs"
import { chmod, lstat, readdir, rm } from "node:fs/promises"
import { basename, join } from "node:path"
import { promisify } from "node:util"
import { Effect, Schema } from "effect"
import { type Identity, isAbandoned } from "./Marker.js"
import { codeOf } from "./SystemCode.js"

/** The user that a command runs as, where it is not the service's own. */
export interface User {
  readonly name: string
  readonly uid: number
  readonly gid: number
  /** Its further groups. */
  readonly groups: ReadonlyArray<number>
  readonly home: string
}

/** No folder can be made for an attempt. */
export class ScratchError extends Schema.TaggedError<ScratchError>()("ScratchError", {
  code: Schema.String,
  folder: Schema.String,
}) {
  override get message(): string {
    return `the temporary folder '${this.folder}' cannot be used (${this.code})`
  }
}

/** The folders of one attempt. */
export interface Folders {
  /** Holds the others. */
  readonly outer: string
  /** The working folder: its name is not used twice. */
  readonly work: string
  readonly temporary: string
  /** Removes them all; resolves to the error of what could not be removed. */
  readonly remove: () => Promise<Error | null>
}

export interface Scratch {
  /** Where the folders of all attempts of this installation are. */
  readonly root: string
  /** Makes the folders of an attempt; throws a `ScratchError`. */
  readonly make: (user: User | null) => Folders
  /** Why none can be made now; `null`: they can. */
  readonly trouble: () => ScratchError | null
  /** Removes what earlier runs of this installation left behind. */
  readonly sweep: Effect.Effect<void>
  /** Removes the root, if no attempt of another process has a folder in it. */
  readonly close: () => void
}

/** Where the folders may be, the preferred place first. */
const places = (data: string): ReadonlyArray<string> => {
  const { TMPDIR } = process.env
  return TMPDIR === undefined || TMPDIR === "" ? ["/tmp", data] : [TMPDIR]
}

/** Makes the root, or finds it. In a shared folder it may be anything, put there by anybody. */
const open = (root: string, mode: number): void => {
  try {
    mkdirSync(root, { mode: 0o700 })
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw error
  }
  if (!isOwn(root)) throw Object.assign(new Error("it is not a folder of this user"), { code: "ENOTOWN" })
  chmodSync(root, mode)
}

const isOwn = (path: string): boolean => {
  const found = lstatSync(path)
  return found.isDirectory() && found.uid === process.geteuid?.()
}

/** The scratch of an installation. `hasUsers`: whether commands run as other users, who have to pass through the root. */
export const make = (identity: Identity, data: string, hasUsers: boolean): Scratch => {
  const name = `offload-${identity.installation}`
  const mode = hasUsers ? 0o711 : 0o700
  const roots = places(data).map((place) => join(place, name))
  const attempt = (root: string): ScratchError | null => {
    try {
      open(root, mode)
      return null
    } catch (error) {
      return new ScratchError({ code: codeOf(error), folder: root })
    }
  }
  const [first = join(data, name)] = roots
  const root = roots.find((each) => attempt(each) === null) ?? first

  return {
    root,
    trouble: () => attempt(root),
    make: (user) => {
      try {
        return makeFolders(root, identity, user)
      } catch {
        // Somebody may have cleaned up the root, or what it is in.
        const trouble = attempt(root)
        if (trouble !== null) throw trouble
      }
      try {
        return makeFolders(root, identity, user)
      } catch (error) {
        throw new ScratchError({ code: codeOf(error), folder: root })
      }
    },
    sweep: Effect.forEach(roots, (each) => sweep(each, identity), { discard: true }),
    close: () => {
      try {
        rmdirSync(root)
      } catch {
        // It is in use, or gone.
      }
    },
  }
}

const makeFolders = (root: string, { owner }: Identity, user: User | null): Folders => {
  const outer = mkdtempSync(join(root, `${owner}-`))
  const work = join(outer, basename(outer))
  const temporary = join(outer, "tmp")
  const folders = [work, temporary]
  for (const folder of folders) mkdirSync(folder, { mode: 0o700 })
  if (user !== null) {
    chmodSync(outer, 0o711)
    for (const folder of folders) chownSync(folder, user.uid, user.gid)
  }
  return { outer, work, temporary, remove: async () => (areRemovedEmpty(outer, folders) ? null : remove(outer)) }
}

/** Most are empty. These calls take less than to wait for a thread that makes them. */
const areRemovedEmpty = (outer: string, folders: ReadonlyArray<string>): boolean => {
  try {
    for (const folder of folders) rmdirSync(folder)
    rmdirSync(outer)
    return true
  } catch {
    // What cannot be removed, the removal of everything tells.
    return false
  }
}

const remove = async (folder: string): Promise<Error | null> => {
  try {
    await (process.geteuid?.() === 0 ? removeAsRoot(folder) : removeAsOwner(folder))
    return null
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  }
}

/**
 * The system's `rm` goes from folder to folder by descriptors: a process of the user of a command cannot put a link in
 * the way that leads root elsewhere. Root needs no permission of a folder.
 */
const removeAsRoot = async (folder: string): Promise<void> => {
  await promisify(execFile)("rm", ["-rf", "--", folder])
}

const removeAsOwner = async (folder: string): Promise<void> => {
  const removed = () => rm(folder, { recursive: true, force: true, maxRetries: 2, retryDelay: 20 })
  await removed().catch(async () => {
    await unlock(folder)
    await removed()
  })
}

/** Makes every folder in it writable: a command may have made some read-only, as caches of packages are. */
const unlock = async (folder: string): Promise<void> => {
  await chmod(folder, 0o700)
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await unlock(join(folder, entry.name))
  }
}

const sweep = (root: string, identity: Identity): Effect.Effect<void> =>
  Effect.tryPromise(async () => {
    const failed: Array<string> = []
    for (const name of await abandonedIn(root, identity)) {
      const path = join(root, name)
      const found = await lstat(path)
      if (!found.isDirectory() || found.uid !== process.geteuid?.()) continue
      if ((await remove(path)) !== null) failed.push(name)
    }
    return failed
  }).pipe(
    Effect.flatMap((failed) =>
      failed.length === 0
        ? Effect.void
        : Effect.logWarning("folders of earlier attempts could not be removed").pipe(
            Effect.annotateLogs({ root, folders: failed.join(", ") }),
          ),
    ),
    Effect.catchAll((error) => Effect.logWarning("the folders of earlier attempts could not be listed", error)),
  )

const abandonedIn = async (root: string, identity: Identity): Promise<ReadonlyArray<string>> => {
  try {
    if (!isOwn(root)) return []
  } catch {
    // There is none: nothing was left.
    return []
  }
  const names = await readdir(root)
  return names.filter((name) => {
    const [owner] = name.split("-")
    return owner !== undefined && isAbandoned(identity, { installation: identity.installation, owner })
  })
}
