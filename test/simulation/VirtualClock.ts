/**
 * A clock that stands still until somebody moves it, shared by processes that can die. That of `TestClock` waits ten
 * milliseconds of the machine at each step, which is most of what a simulation would do.
 */
import { Clock, Duration, Effect } from "effect"

interface Sleeper {
  readonly at: number
  readonly wake: () => void
}

export interface VirtualClock {
  readonly now: () => number
  /** Moves the time, also backwards, and wakes nobody. */
  readonly move: (millis: number) => Effect.Effect<void>
  /** Moves the time on to the next one that sleeps, and wakes it; `false`: nobody sleeps until `limit`. */
  readonly wakeNext: (limit: number) => boolean
  /** The clock of a process. */
  readonly process: () => { readonly clock: Clock.Clock; readonly die: () => void }
}

export const make = (): VirtualClock => {
  let now = 0
  const sleepers = new Set<Sleeper>()
  /** What never goes back. */
  let newest = 0
  const nanos = () => {
    newest = Math.max(newest, now)
    return BigInt(Math.round(newest * 1e6))
  }
  return {
    now: () => now,
    move: (millis) =>
      Effect.sync(() => {
        now = Math.max(0, now + millis)
      }),
    wakeNext: (limit) => {
      const [first] = [...sleepers].sort((a, b) => a.at - b.at)
      if (first === undefined || first.at > limit) return false
      now = Math.max(now, first.at)
      sleepers.delete(first)
      first.wake()
      return true
    },
    process: () => {
      const own = new Set<Sleeper>()
      let alive = true
      return {
        clock: {
          [Clock.ClockTypeId]: Clock.ClockTypeId,
          unsafeCurrentTimeMillis: () => now,
          unsafeCurrentTimeNanos: nanos,
          currentTimeMillis: Effect.sync(() => now),
          currentTimeNanos: Effect.sync(nanos),
          sleep: (duration) =>
            Effect.async<void>((resume) => {
              const sleeper = { at: now + Duration.toMillis(duration), wake: () => resume(Effect.void) }
              if (alive) {
                own.add(sleeper)
                sleepers.add(sleeper)
              }
              return Effect.sync(() => sleepers.delete(sleeper))
            }),
        },
        die: () => {
          alive = false
          for (const sleeper of own) sleepers.delete(sleeper)
        },
      }
    },
  }
}
