/**
 * One write for all commits that are begun in one turn of the event loop: one fsync for all of them, and a turn of
 * the loop for others before the next write. Who commits in answer to a commit would else never let go of the loop.
 */
import { Either } from "effect"
import { KvError, type Op } from "../Kv.js"
import { type Guard, lost } from "./Guard.js"
import { type Ownership, takenBy } from "./Owner.js"
import type { Room } from "./Room.js"
import { writeIf } from "./Write.js"

export interface GroupCommit {
  readonly commit: (ops: ReadonlyArray<Op>, done: (error: KvError | null) => void, isGrowth?: boolean) => void
  /** Writes what is still waiting, and refuses what comes after. */
  readonly close: () => void
}

interface Waiting {
  readonly ops: ReadonlyArray<Op>
  readonly done: (error: KvError | null) => void
  readonly isGrowth: boolean
}

/** What writes go to. */
export interface Target {
  readonly owned: Pick<Ownership, "condition" | "lose">
  readonly path: string
  readonly room: Room
  readonly guard: Guard
  /** Must not throw. */
  readonly write: (op: Op) => void
}

/**
 * By key, so that the keys of new jobs come in their order. lmdb splits a page in the middle but for a key that is
 * added after all others: where these come in any order, a third of its file is empty.
 */
const sorted = (ops: Array<Op>): ReadonlyArray<Op> => ops.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))

/** How many commits are written in one turn: encoding them takes the loop about 5 ms. */
const maxGroup = 500

export const make = ({ guard, owned: { condition, lose }, path, room, write }: Target): GroupCommit => {
  let waiting: Array<Waiting> = []
  let closed = false

  const failed = (detail: string, full = false) => new KvError({ reason: "unavailable", detail, unmade: true, full })

  const flush = () => {
    const next = waiting.slice(0, maxGroup)
    waiting = waiting.slice(maxGroup)
    if (waiting.length > 0) setImmediate(flush)
    if (next.length === 0) return
    const group = fitting(next)
    if (group.length === 0) return
    writeIf(
      condition,
      () => {
        for (const op of sorted(group.flatMap(({ ops }) => ops))) write(op)
      },
      tell(group.map(({ done }) => done)),
    )
  }

  /** Those that the disk has room for; the others are refused, and all of them where the folder is gone. */
  const fitting = (all: ReadonlyArray<Waiting>): ReadonlyArray<Waiting> => {
    if (guard.isLost()) {
      for (const { done } of all) done(failed(lost(path)))
      return []
    }
    const { take } = room.look()
    return all.filter(({ done, isGrowth, ops }) => {
      const fits = take(ops, isGrowth)
      if (!fits) done(failed(`the disk of the folder '${path}' is full`, true))
      return fits
    })
  }

  /** Not a closure in `flush`, which would keep the operations for as long as the disk takes. */
  const tell = (all: ReadonlyArray<Waiting["done"]>) => (result: Either.Either<boolean, KvError>) => {
    const error = Either.match(result, {
      onLeft: (error) => error,
      onRight: (held) => (held ? null : failed(takenBy(path))),
    })
    if (Either.isRight(result) && !result.right) lose()
    for (const done of all) done(error)
  }

  return {
    commit: (ops, done, isGrowth = false) => {
      if (closed) return done(failed(`the folder '${path}' is closed`))
      waiting.push({ ops, done, isGrowth })
      if (waiting.length === 1) setImmediate(flush)
    },
    close: () => {
      closed = true
      while (waiting.length > 0) flush()
    },
  }
}
