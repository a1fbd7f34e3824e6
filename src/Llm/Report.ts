/** Lines for the log about what happens outside of every fiber. */
import { Effect, Queue, type Scope } from "effect"

export type Report = (line: Effect.Effect<void>) => void

/** Writes them for as long as the scope lasts, and at its end what has come until then. */
export const makeReport: Effect.Effect<Report, never, Scope.Scope> = Effect.gen(function* () {
  const lines = yield* Queue.unbounded<Effect.Effect<void>>()
  const write = Effect.flatMap(Queue.takeAll(lines), (left) => Effect.all(left, { discard: true }))
  yield* Effect.addFinalizer(() => write)
  yield* Effect.forkScoped(Effect.forever(Effect.flatten(Queue.take(lines))))
  return (line) => {
    lines.unsafeOffer(line)
  }
})
