/**
 * The text of an attempt on its way into the store: gathered while it comes, written in batches.
 *
 * The text that is not yet stored is kept here until a write of it has succeeded, so that a store that is out of
 * reach for a while costs nothing; the largest output of an attempt bounds it.
 */
import { Effect, Fiber, type Scope } from "effect"
import type { JobId, Piece } from "../Job.js"
import { Store } from "../Store.js"

/** How long text may wait to be written together with the text after it. */
const batchMillis = 50

/** How long to wait after a write that failed. */
const retryMillis = 1000

export interface TextWriter {
  /** Adds text. Never blocks, never fails. */
  readonly emit: (text: string) => void
  /** Ends the batches and gives what may not be stored yet: the last write of the attempt takes it along. */
  readonly close: Effect.Effect<Piece>
}

/** The writer of an attempt: it writes while the scope is open. */
export const make = (id: JobId, attempt: number): Effect.Effect<TextWriter, never, Store | Scope.Scope> =>
  Effect.gen(function* () {
    const store = yield* Store
    const arrived = yield* Effect.makeLatch(false)
    let pending: Piece = { at: 0, text: "" }

    // Uninterruptible, so that `close` waits for a write that is under way, and gives only what is left.
    const write = Effect.suspend(() => {
      const { length } = pending.text
      return Effect.map(store.append(id, attempt, pending), () => {
        pending = { at: pending.at + length, text: pending.text.slice(length) }
      })
    }).pipe(Effect.uninterruptible)

    // It waits first: the output of a command that ends at once goes into the write that ends its attempt.
    const batch = arrived.await.pipe(
      Effect.zipRight(Effect.sleep(batchMillis)),
      Effect.zipRight(arrived.close),
      Effect.zipRight(write),
      Effect.catchTags({
        StoreError: (error) =>
          Effect.logWarning("output is kept in memory until the store takes it").pipe(
            Effect.annotateLogs({ error: error.message }),
            Effect.zipRight(Effect.sleep(retryMillis)),
            Effect.zipRight(arrived.open),
          ),
        // The attempt has lost its job; what settles it will find out and say so.
        StaleAttempt: () => Effect.never,
        JobNotFound: () => Effect.never,
      }),
    )
    const batches = yield* Effect.forkScoped(Effect.interruptible(Effect.forever(batch)))

    return {
      emit: (text) => {
        pending = { at: pending.at, text: pending.text + text }
        arrived.unsafeOpen()
      },
      close: Effect.map(Fiber.interrupt(batches), () => pending),
    }
  })
