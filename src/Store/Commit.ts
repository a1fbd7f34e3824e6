/**
 * How `KvStore` changes something: it holds the job's lock while it reads, decides and commits, so that two changes of
 * one job never cross, and changes of different jobs never wait for each other.
 */
import { Effect, Either } from "effect"
import { type Kv, KvError, type Op } from "./Kv.js"
import * as Limit from "./Limit.js"
import * as Lock from "./Lock.js"

/** A decision: what to write, if anything, and what to answer. */
export interface Plan<A> {
  readonly ops: ReadonlyArray<Op>
  readonly answer: A
  /** Whether it adds work, see `Kv.commit`. Default: no. */
  readonly isGrowth?: boolean
  /** Brings what the process remembers up to date, before anybody learns of the commit. */
  readonly onCommitted?: () => void
  /** Takes back what was reserved for it. */
  readonly onFailed?: () => void
}

/** A decision at a time. It may throw `KvError`, as the reads of `Kv` do. */
export type Decide<A, E> = (now: number) => Either.Either<Plan<A>, E>

/** Is told, once, what became of a change. */
export type Done<A, E> = (result: Either.Either<A, E | KvError>) => void

/** Changes nothing. */
export const answer = <A>(answer: A): Plan<A> => ({ ops: [], answer })

export interface Commit {
  /**
   * Decides with the locks of these keys held, and commits the plan. Interruption and the limit of 2 s end the wait
   * for a lock, with nothing changed. A commit that has begun always ends, and keeps its locks until then, however
   * long its disk takes; who waits for it is not interrupted, but fails after 2 s.
   */
  readonly run: <A, E>(keys: ReadonlyArray<string>, decide: Decide<A, E>) => Effect.Effect<A, E | KvError>
  /**
   * The same without a fiber, for who does not wait for locks: calls back once, with what `run` would answer. `false`:
   * somebody holds one of the locks, and nothing was done. Throws what `decide` throws.
   */
  readonly begin: <A, E>(keys: ReadonlyArray<string>, decide: Decide<A, E>, now: number, done: Done<A, E>) => boolean
  /** How many locks are held. */
  readonly size: () => number
}

/** As the contract promises. */
const limitMillis = 2000

export const make = (kv: Kv): Commit => {
  const lock = Lock.make()
  const afterLimit = Limit.make(limitMillis)

  const tooSlow = (detail: string, unmade: boolean) =>
    Either.left(new KvError({ reason: "unavailable", detail: `${detail} within ${limitMillis / 1000} s`, unmade }))

  const waitFor = (ticket: Lock.Ticket): Effect.Effect<void, KvError> =>
    Effect.async((resume) => {
      const stop = afterLimit(() => resume(tooSlow("an earlier change of the job did not end", true)))
      ticket.onHeld(() => {
        stop()
        resume(Effect.void)
      })
      return Effect.sync(stop)
    })

  const write = <A>(
    { answer, isGrowth, onCommitted, onFailed, ops }: Plan<A>,
    leave: () => void,
    done: Done<A, never>,
  ): void => {
    let isTold = false
    const tell: Done<A, never> = (result) => {
      if (isTold) return
      isTold = true
      done(result)
    }
    const stop = afterLimit(() => tell(tooSlow("the disk did not confirm a write, which may yet be made,", false)))
    kv.commit(ops, whenDone(answer, onCommitted, onFailed, stop, leave, tell), isGrowth)
  }

  const execute = <A, E>(decide: Decide<A, E>, now: number, leave: () => void): Effect.Effect<A, E | KvError> => {
    const decided = attempt(decide, now, leave)
    return isWrite(decided)
      ? Effect.async((resume) => write(decided.right, leave, resume))
      : withoutWrite(decided, leave)
  }

  const begin: Commit["begin"] = (keys, decide, now, done) => {
    if (!keys.every(lock.isFree)) return false
    const tickets = keys.map(lock.enter)
    const leave = () => {
      for (const ticket of tickets) ticket.leave()
    }
    const decided = attempt(decide, now, leave)
    if (isWrite(decided)) write(decided.right, leave, done)
    else done(withoutWrite(decided, leave))
    return true
  }

  const run = <A, E>(keys: ReadonlyArray<string>, decide: Decide<A, E>): Effect.Effect<A, E | KvError> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.clockWith((clock) => {
        const tickets: Array<Lock.Ticket> = []
        const leave = () => {
          for (const ticket of tickets) ticket.leave()
        }
        const enter = (rest: ReadonlyArray<string>): Effect.Effect<A, E | KvError> => {
          const [key, ...others] = rest
          if (key === undefined) return execute(decide, clock.unsafeCurrentTimeMillis(), leave)
          const ticket = lock.enter(key)
          tickets.push(ticket)
          return ticket.isHeld()
            ? enter(others)
            : Effect.matchCauseEffect(restore(waitFor(ticket)), {
                // The lock may have been handed over at the moment of the interruption.
                onFailure: (cause) => {
                  leave()
                  return Effect.failCause(cause)
                },
                onSuccess: () => enter(others),
              })
        }
        return enter(keys)
      }),
    )

  return { run, begin, size: lock.size }
}

const isWrite = <A, E>(decided: Either.Either<Plan<A>, E>): decided is Either.Right<E, Plan<A>> =>
  Either.isRight(decided) && decided.right.ops.length > 0

const withoutWrite = <A, E>(decided: Either.Either<Plan<A>, E>, leave: () => void): Either.Either<A, E> => {
  leave()
  return Either.map(decided, ({ answer }) => answer)
}

/** Not a closure in `write`, which would keep `ops`, and so a whole prompt, for as long as the disk takes. */
const whenDone =
  <A>(
    answer: A,
    onCommitted: (() => void) | undefined,
    onFailed: (() => void) | undefined,
    stop: () => void,
    leave: () => void,
    done: Done<A, never>,
  ) =>
  (error: KvError | null) => {
    stop()
    if (error === null) onCommitted?.()
    else onFailed?.()
    leave()
    done(error === null ? Either.right(answer) : Either.left(error))
  }

const attempt = <A, E>(
  decide: Decide<A, E>,
  now: number,
  onDefect: () => void,
): Either.Either<Plan<A>, E | KvError> => {
  try {
    return decide(now)
  } catch (error) {
    // It was read, and nothing written yet.
    if (error instanceof KvError) return Either.left(new KvError({ ...error, unmade: true }))
    onDefect()
    throw error
  }
}
