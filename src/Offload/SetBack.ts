/** A wall clock that is set back: a backoff that it had set would wait for a time that is far away again. */
import { Clock, Effect } from "effect"
import { Store, type StoreError } from "../Store.js"

/** For durations, which the wall clock does not tell. */
export const monotonicMillis: Effect.Effect<number> = Effect.map(Clock.currentTimeNanos, (nanos) =>
  Number(nanos / 1_000_000n),
)

/**
 * What looks whether the clock was set back since the look before, and then has each backoff begin again which the clock
 * had set when it was ahead. At the first look nobody knows what the clock did since the run before. Where the store
 * fails the next look goes on with it.
 */
export const make: Effect.Effect<Effect.Effect<void, StoreError>, never, Store> = Effect.map(Store, (store) => {
  let before = Number.POSITIVE_INFINITY
  let isSetBack = false

  const shortenFrom = (cursor?: string): Effect.Effect<number, StoreError> =>
    Effect.flatMap(store.shorten({ cursor }), ({ cursor: next, released }) =>
      next === null
        ? Effect.succeed(released)
        : // Between two pages the event loop is for others.
          Effect.map(Effect.delay(shortenFrom(next), 1), (more) => released + more),
    )

  return Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    if (now < before) isSetBack = true
    before = now
    if (!isSetBack) return
    const jobs = yield* shortenFrom()
    isSetBack = false
    if (jobs === 0) return
    yield* Effect.logWarning("the clock was set back: backoffs that it had set begin again").pipe(
      Effect.annotateLogs({ module: "Offload", jobs }),
    )
  })
})
