/**
 * The working directory of an attempt: empty, private, and removed at its end.
 */
import { mkdtempSync, rmdirSync } from "node:fs"
import { chmod, readdir, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, type Scope } from "effect"
import type { UnknownException } from "effect/Cause"
import { type Identity, isAbandoned } from "./Cookie.js"

const prefix = "offload-"

/** Makes every folder in it writable: a command may have made some read-only, as caches of packages are. */
const unlock = async (folder: string): Promise<void> => {
  await chmod(folder, 0o700)
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await unlock(join(folder, entry.name))
  }
}

const remove = (folder: string): Effect.Effect<void> => {
  const removed = Effect.tryPromise(() => rm(folder, { recursive: true, force: true, maxRetries: 2, retryDelay: 20 }))
  const removedWithAll = removed.pipe(
    Effect.catchAll(() =>
      Effect.zipRight(
        Effect.tryPromise(() => unlock(folder)),
        removed,
      ),
    ),
    Effect.catchAll((error) =>
      Effect.annotateLogs(Effect.logWarning("a folder of an attempt could not be removed", error), { folder }),
    ),
  )
  return Effect.suspend(() => (isRemovedEmpty(folder) ? Effect.void : removedWithAll))
}

/** Most are empty. One call takes less than to wait for a thread that makes it. */
const isRemovedEmpty = (folder: string): boolean => {
  try {
    rmdirSync(folder)
    return true
  } catch {
    // What it is that cannot be removed, the removal of everything tells.
    return false
  }
}

/** How the names of all folders of a service begin, so that they are found when it is gone. */
export const prefixOf = ({ installation, owner }: Identity): string => `${prefix}${installation}-${owner}-`

/** Makes it, readable to its owner alone. */
export const make = (identity: Identity): Effect.Effect<string, UnknownException, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.try(() => mkdtempSync(join(tmpdir(), prefixOf(identity)))),
    remove,
  )

const parse = (name: string): Identity | null => {
  const [installation, owner] = name.slice(prefix.length).split("-")
  return !name.startsWith(prefix) || installation === undefined || owner === undefined ? null : { installation, owner }
}

/** Removes the folders that earlier runs of this installation left behind. */
export const sweep = (identity: Identity): Effect.Effect<void> =>
  Effect.tryPromise(() => readdir(tmpdir())).pipe(
    Effect.map((names) =>
      names.filter((name) => {
        const theirs = parse(name)
        return theirs !== null && isAbandoned(identity, theirs)
      }),
    ),
    Effect.flatMap((names) =>
      Effect.all(
        names.map((name) => remove(join(tmpdir(), name))),
        { discard: true },
      ),
    ),
    Effect.catchAll((error) => Effect.logWarning("the folders of earlier attempts could not be listed", error)),
  )
