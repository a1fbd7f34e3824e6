/**
 * What a backend of `KvStore` has to do: ordered keys in named tables, read at once and written in atomic, durable
 * commits. Keys are what `Key.ts` makes, values are not empty.
 */
import { Data, Effect, Either } from "effect"

/** The tables: `Record.ts` says what stands in each. */
export const tables = [
  "jobs",
  "inputs",
  "events",
  "index",
  "ready",
  "running",
  "timers",
  "idempotency",
  "meta",
] as const
export type Table = (typeof tables)[number]

export interface Entry {
  readonly key: string
  readonly value: string
}

/** One write of a commit. */
export type Op =
  | { readonly _tag: "Put"; readonly table: Table; readonly key: string; readonly value: string }
  | { readonly _tag: "Remove"; readonly table: Table; readonly key: string }

export const put = (table: Table, key: string, value: string): Op => ({ _tag: "Put", table, key, value })
export const remove = (table: Table, key: string): Op => ({ _tag: "Remove", table, key })

/** The keys from `start` to before `end`, `reverse`: the last one first; at most `limit` of them. */
export interface Range {
  readonly start: string
  readonly end: string
  readonly reverse?: boolean
  readonly limit?: number
}

/** A `StoreError` that does not yet know its operation. */
export class KvError extends Data.TaggedError("KvError")<{
  readonly reason: "unavailable" | "malformed"
  readonly detail: string
  readonly cause?: unknown
  readonly unmade?: boolean
  /** Whether it was refused for want of room. */
  readonly full?: boolean
}> {}

/** Reads see every commit that has succeeded, and throw `KvError` alone. */
export interface Kv {
  readonly get: (table: Table, key: string) => string | undefined
  readonly keys: (table: Table, range: Range) => Iterable<string>
  readonly entries: (table: Table, range: Range) => Iterable<Entry>
  readonly count: (table: Table, range: Range) => number
  /**
   * Writes all of them or none, and calls `done` once, when they are durable or have failed. Commits take effect in
   * the order in which they were begun. Removing what is absent is no error. A callback and not an effect, because a
   * commit that has begun goes on whether anybody waits for it or not. `isGrowth`: it adds work, and is refused where
   * room is short; what ends work or frees room may use the last of it. Default: no.
   */
  readonly commit: (ops: ReadonlyArray<Op>, done: (error: KvError | null) => void, isGrowth?: boolean) => void
}

/** What `read` returns or throws; anything but `KvError` is a bug, and is thrown on. */
export const readNow = <A>(read: () => A): Either.Either<A, KvError> => {
  try {
    return Either.right(read())
  } catch (error) {
    if (error instanceof KvError) return Either.left(error)
    throw error
  }
}

/** The same when the effect is run, which dies of a bug. */
export const reading = <A>(read: () => A): Effect.Effect<A, KvError> => Effect.suspend(() => readNow(read))
