/**
 * How long the chaos lasts, and what happens by chance in it. `npm run chaos` is the long form. The seed is printed;
 * `CHAOS_SEED=…` gives it again: the same faults in the same order, as far as the machine lets them.
 */
import { expect } from "vitest"

export const isLong = process.env.CHAOS === "long"

/** A number for the short form, and one for the long. */
export const scale = (short: number, long: number): number => (isLong ? long : short)

const seed = Number(process.env.CHAOS_SEED ?? Math.floor(Math.random() * 2 ** 31))

export interface Chance {
  /** At least `from` and less than `to`. */
  readonly between: (from: number, to: number) => number
  readonly whole: (from: number, to: number) => number
  readonly one: <A>(of: readonly [A, ...ReadonlyArray<A>]) => A
  readonly is: (probability: number) => boolean
}

/** Its own chance for each test, so that one of them can be run alone with the seed of all. */
export const makeChance = (name = expect.getState().currentTestName ?? ""): Chance => {
  console.info(`chaos: CHAOS_SEED=${seed} (${name})`)
  let state = [...name].reduce((hash, letter) => Math.imul(hash ^ letter.charCodeAt(0), 0x01000193), seed | 0)
  // mulberry32
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const between = (from: number, to: number) => from + next() * (to - from)
  const whole = (from: number, to: number) => Math.floor(between(from, to))
  return { between, whole, one: (of) => of[whole(0, of.length)] ?? of[0], is: (probability) => next() < probability }
}

export const sleep = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))
