/**
 * The folders of attempts: each has an empty working folder and one for temporary files, which nobody else may enter
 * and which are removed at its end.
 *
 * They are in a folder of this installation's own, `offload-<installation>`, in `TMPDIR`; where that is not set, in
 * `/tmp`, or else in `OFFLOAD_DATA`.
 */
import { execFile } from "node:child_process"
import { randomBytes } from "node:crypto"
import { chmodSync, existsSync, lstatSync, mkdirSync, rmdirSync } from "node:fs"
import { chmod, lstat, readdir, rm, unlink } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import { Effect } from "effect"
import type { Refusal } from "./Containment.js"
import { find } from "./Executable.js"
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

/** That no folder can be made for an attempt. */
export const unusable = (root: string, error: unknown): Refusal => ({
  code: codeOf(error),
  detail: `the temporary folder '${root}' cannot be used (${codeOf(error)})`,
})

/** The folders of one attempt, which the leader of its sandbox makes, and removes where they are empty. */
export interface Folders {
  /** The name of the outer one, which is not used twice; the working folder in it has the same. */
  readonly name: string
  readonly outer: string
  /** When the leader has ended: removes what is left. A failure is reported. */
  readonly remove: () => Promise<void>
}

/** The name of the folder for temporary files. */
export const temporaryName = "tmp"

export interface Scratch {
  /** Where the folders of all attempts of this installation are. */
  readonly root: string
  /** Names the folders of an attempt. */
  readonly make: () => Folders
  /** Makes the root, if it is not there. Why no folder can be made now; `null`: it can. */
  readonly trouble: () => Refusal | null
  /** Removes what earlier runs of this installation left behind. */
  readonly sweep: Effect.Effect<void>
  /** Removes the root, if no attempt of another process has a folder in it. */
  readonly close: () => Promise<void>
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

export interface Options {
  readonly identity: Identity
  /** `OFFLOAD_DATA` */
  readonly data: string
  /** Whether commands run as other users, who have to pass through the root. */
  readonly hasUsers: boolean
  /** Takes the error of a folder that could not be removed. */
  readonly onLeft: (error: Error) => void
}

/** The scratch of an installation. */
export const make = ({ data, hasUsers, identity, onLeft }: Options): Scratch => {
  const removing = new Set<Promise<Error | null>>()
  const name = `offload-${identity.installation}`
  const mode = hasUsers ? 0o711 : 0o700
  const roots = places(data).map((place) => join(place, name))
  const attempt = (root: string): Refusal | null => {
    try {
      open(root, mode)
      return null
    } catch (error) {
      return unusable(root, error)
    }
  }
  const [first = join(data, name)] = roots
  const root = roots.find((each) => attempt(each) === null) ?? first

  return {
    root,
    trouble: () => attempt(root),
    make: () => {
      const name = `${identity.owner}-${randomBytes(6).toString("hex")}`
      const outer = join(root, name)
      return {
        name,
        outer,
        remove: async () => {
          // Most were empty.
          if (!existsSync(outer)) return
          const removed = remove(outer)
          removing.add(removed)
          const error = await removed
          removing.delete(removed)
          if (error !== null) onLeft(error)
        },
      }
    },
    sweep: Effect.forEach(roots, (each) => sweep(each, identity), { discard: true }),
    close: async () => {
      await Promise.all(removing)
      try {
        rmdirSync(root)
      } catch {
        // It is in use, or gone.
      }
    },
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
  await promisify(execFile)(find("rm") ?? "/bin/rm", ["-rf", "--", folder])
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
      if (found.uid !== process.geteuid?.()) continue
      if (found.isSocket()) await unlink(path)
      if (!found.isDirectory()) continue
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
