/**
 * A scheduler that gives the event loop back every few milliseconds, however many fibers want to go on: for those that
 * are woken, or interrupted, by the thousand at once.
 */
import { Effect, Scheduler } from "effect"

/** How long fibers may go on before others get the event loop, in milliseconds. */
const sliceMillis = 5

const make = (): Scheduler.Scheduler => {
  let waiting: Array<Scheduler.Task> = []
  let isArmed = false

  const run = () => {
    const tasks = waiting
    const until = performance.now() + sliceMillis
    let at = 0
    waiting = []
    try {
      while (at < tasks.length && (at === 0 || performance.now() < until)) tasks[at++]?.()
    } finally {
      // In their order: what was woken meanwhile comes after what still waits.
      if (at < tasks.length) waiting = [...tasks.slice(at), ...waiting]
      isArmed = waiting.length > 0
      if (isArmed) setImmediate(run)
    }
  }

  return {
    shouldYield: (fiber) => Scheduler.defaultScheduler.shouldYield(fiber),
    scheduleTask: (task) => {
      waiting.push(task)
      if (isArmed) return
      isArmed = true
      setImmediate(run)
    },
  }
}

/** Goes on in slices, beside all others that do. */
export const inSlices = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withScheduler(effect, slices)

/** One for the process: what it shares out is the process's event loop. */
const slices: Scheduler.Scheduler = make()
