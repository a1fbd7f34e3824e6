/** Runs of random commands over a store, each answer and each state checked against the model. */
import { setImmediate } from "node:timers/promises"
import { Cause, Effect, ExecutionStrategy, Exit, Logger, LogLevel, Runtime, Scope } from "effect"
import * as fc from "fast-check"
import type { Store } from "../../src/Store.js"
import { Inconclusive } from "./Checked.js"
import { type Command, command, run } from "./Commands.js"
import { parameters, replayPath, verdict } from "./runs.js"
import * as VirtualClock from "./VirtualClock.js"
import * as World from "./World.js"

/** Opens the same data at each call; what it opened before has died by then. */
export type Open = Effect.Effect<Store["Type"], unknown, Scope.Scope>

interface Real {
  readonly perform: (command: Command) => Promise<void>
}

class Step implements fc.AsyncCommand<object, Real, false> {
  constructor(readonly command: Command) {}
  check() {
    return true
  }
  run(_: object, { perform }: Real) {
    return perform(this.command)
  }
  toString() {
    return JSON.stringify(this.command)
  }
}

type Steps = Iterable<fc.AsyncCommand<object, Real, false>>

const maxCommands = 30
/** So often everything is compared; after each command only what it has changed. */
const comparesAll = 10

/** Data of their own, gone with the scope, and what opens them. */
const simulate = (data: Effect.Effect<Open, unknown, Scope.Scope>, steps: Steps) => {
  const clock = VirtualClock.make()
  const simulation = Effect.gen(function* () {
    const open = yield* data
    const outer = yield* Effect.scope
    let opened: Scope.CloseableScope | null = null
    const reopen = Effect.gen(function* () {
      if (opened !== null) yield* Scope.close(opened, Exit.void)
      opened = yield* Scope.fork(outer, ExecutionStrategy.sequential)
      return yield* Scope.extend(open, opened)
    })
    const world = yield* World.make(Effect.orDie(reopen), clock)
    const runPromiseExit = Runtime.runPromiseExit(yield* Effect.runtime<never>())
    let done = 0
    const perform = async (command: Command) => {
      const compared = world.verify(++done % comparesAll === 0 ? "all" : "changed")
      const exit = await runPromiseExit(Effect.zipRight(run(world, command), compared))
      if (Exit.isFailure(exit)) throw Cause.squash(exit.cause)
    }
    yield* Effect.tryPromise(() => fc.asyncModelRun(() => ({ model: {}, real: { perform } }), steps))
    yield* world.verify("all")
  })
  return simulation.pipe(
    Effect.scoped,
    Effect.withClock(clock.process().clock),
    Logger.withMinimumLogLevel(LogLevel.None),
  )
}

export const holds = async (data: Effect.Effect<Open, unknown, Scope.Scope>, runs: number): Promise<void> => {
  let inconclusive = 0
  const property = fc.asyncProperty(
    fc.commands(
      [command.map((each): fc.AsyncCommand<object, Real, false> => new Step(each))],
      replayPath === undefined ? { maxCommands, size: "max" } : { maxCommands, size: "max", replayPath },
    ),
    async (steps) => {
      // Others want the event loop too, and a run in memory is nothing but microtasks.
      await setImmediate()
      const exit = await Effect.runPromiseExit(simulate(data, steps))
      if (Exit.isSuccess(exit)) return
      const error = causeOf(Cause.squash(exit.cause))
      if (!(error instanceof Inconclusive)) throw error
      inconclusive++
    },
  )
  const result = await fc.check(property, parameters(runs))
  verdict(result)
  if (inconclusive > result.numRuns / 20)
    throw new Error(`the store failed in ${inconclusive} of ${result.numRuns} runs, unasked`)
}

/** What was thrown, out of what Effect and fast-check have put around it. */
const causeOf = (error: unknown): unknown => (Cause.isUnknownException(error) ? causeOf(error.error) : error)
