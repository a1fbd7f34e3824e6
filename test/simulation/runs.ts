/**
 * How many runs are made, and how a failure is made again.
 *
 * `SIMULATION_RUNS=20` makes twenty times as many runs, from a random seed. What fails prints the settings that run it
 * again: `SIMULATION_SEED`, `SIMULATION_PATH` and, where there is one, `SIMULATION_REPLAY`.
 */
import * as fc from "fast-check"

const { SIMULATION_PATH, SIMULATION_REPLAY, SIMULATION_RUNS, SIMULATION_SEED } = process.env
const times = Number(SIMULATION_RUNS ?? 1)

/** Enough for the runs on a busy machine, and to make what fails as small as it can be. */
export const timeoutMillis = 600_000 * Math.max(1, times)

export const replayPath = SIMULATION_REPLAY

/** The same runs at each time, unless more or others are asked for. */
export const parameters = <A>(runs: number): fc.Parameters<A> => {
  const seed = SIMULATION_SEED ?? (SIMULATION_RUNS === undefined ? "1" : undefined)
  return {
    numRuns: Math.ceil(runs * times),
    ...(seed === undefined ? {} : { seed: Number(seed) }),
    ...(SIMULATION_PATH === undefined ? {} : { path: SIMULATION_PATH }),
  }
}

/** Fails where a run has, and says how to make it again. */
export const verdict = <A>(result: fc.RunDetails<A>): void => {
  if (!result.failed) return
  const { counterexample, counterexamplePath, errorInstance, seed } = result
  const replay = /replayPath="([^"]*)"/.exec(fc.stringify(counterexample))?.[1]
  const again = [
    `SIMULATION_SEED=${seed} SIMULATION_PATH=${counterexamplePath}`,
    ...(replay === undefined ? [] : [`SIMULATION_REPLAY=${replay}`]),
  ].join(" ")
  throw new Error(`run it again with ${again}\n${fc.defaultReportMessage(result)}`, { cause: errorInstance })
}
