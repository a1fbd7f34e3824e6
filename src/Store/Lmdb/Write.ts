/** Writes to lmdb that land all together or not at all, and only while a record has the expected version. */
import { Effect, Either } from "effect"
import type { Database } from "lmdb"
import { KvError } from "../Kv.js"

export type Strings = Database<string, string>

/** The version that a record must have; `null`: it must not be there. */
export interface Condition {
  readonly db: Strings
  readonly key: string
  readonly version: number | null
}

/**
 * Makes the puts and removals that `action` calls, in one transaction, if the condition holds when lmdb gets to them.
 * Calls `done` once, when all is on the disk. `Right(false)`: the condition did not hold, and nothing was written.
 * `action` must not throw.
 */
export const writeIf = (
  { db, key, version }: Condition,
  action: () => void,
  done: (result: Either.Either<boolean, KvError>) => void,
): void => {
  const failed = (cause: unknown) =>
    done(Either.left(unavailable("the disk did not take a write (it may be full)", cause)))
  try {
    const held = version === null ? db.ifNoExists(key, action) : db.ifVersion(key, version, action)
    held.then(
      (held) => done(Either.right(held)),
      (error: unknown) => reasonOf(error).then(failed),
    )
  } catch (cause) {
    failed(cause)
  }
}

/** The same as an effect, for who can wait. */
export const writeWhen = (condition: Condition, action: () => void): Effect.Effect<boolean, KvError> =>
  Effect.async((resume) => writeIf(condition, action, resume))

export const unavailable = (what: string, cause: unknown): KvError =>
  new KvError({
    reason: "unavailable",
    detail: `${what}: ${cause instanceof Error ? cause.message : String(cause)}`,
    cause,
  })

/** lmdb rejects a write before it knows why its transaction failed; `commitError` tells, a moment later. */
const reasonOf = async (error: unknown): Promise<unknown> => {
  if (!(error instanceof Error && "commitError" in error)) return error
  const late = new Promise((resolve) => setImmediate(() => resolve(error)))
  return Promise.race([error.commitError, late]).catch((reason: unknown) => reason)
}
