/**
 * Which numbers and times from outside can be true. Everything that a command line, a worker or an old record tells
 * passes here before it is used. Times are milliseconds since the epoch, durations milliseconds.
 */
import type { Usage } from "../Job.js"

/** The longest time that a downstream is waited for: a time further ahead is cut to this, then it is asked again. */
export const longestWaitMillis = 24 * 60 * 60 * 1000

/** A whole number of things, such as tokens: not negative, at most 2^53. */
export const count = (value: unknown): number | undefined => (Number.isInteger(value) ? amount(value) : undefined)

/** An amount, such as a price: finite, not negative, at most 2^53. */
export const amount = (value: unknown): number | undefined =>
  typeof value === "number" && value >= 0 && value <= 2 ** 53 ? value : undefined

/** The members of a usage that can be true. */
export const usage = ({ costUsd, inputTokens, outputTokens }: Usage): Usage => ({
  ...present("inputTokens", count(inputTokens)),
  ...present("outputTokens", count(outputTokens)),
  ...present("costUsd", amount(costUsd)),
})

const present = <K extends string>(key: K, value: number | undefined): { readonly [key in K]?: number } => {
  const found: { [key in K]?: number } = {}
  if (value !== undefined) found[key] = value
  return found
}

/** The last millisecond that a `Date` has. */
const lastMillis = 8.64e15

/** A time that a date has, from the epoch on. */
export const moment = (at: number | undefined): number | undefined => {
  const millis = amount(at)
  return millis !== undefined && millis <= lastMillis ? millis : undefined
}

/** In milliseconds, 1973; in seconds, the year 5138: from here on a number is milliseconds. */
const firstMillis = 1e11

/** The moment of a number of seconds or of milliseconds since the epoch. */
export const momentOf = (sinceEpoch: number | undefined): number | undefined =>
  moment(sinceEpoch === undefined || sinceEpoch >= firstMillis ? sinceEpoch : sinceEpoch * 1000)

/** A wait that a downstream asks for, cut to the longest; `undefined`: it cannot be true. */
export const wait = (millis: number | undefined): number | undefined => {
  const found = amount(millis)
  return found === undefined ? undefined : Math.min(found, longestWaitMillis)
}

/** The wait until a moment; `undefined`: it is no moment, or not ahead. */
export const waitUntil = (at: number | undefined, now: number): number | undefined => {
  const found = moment(at)
  return found === undefined || found <= now ? undefined : wait(found - now)
}

/** The last time that RFC 3339 can write. */
const lastWritten = Date.UTC(9999, 11, 31, 23, 59, 59, 999)

/** A time as RFC 3339. One that it cannot write becomes the nearest that it can: an old record may hold any number. */
export const toIso = (at: number): string =>
  new Date(Number.isNaN(at) ? 0 : Math.min(Math.max(at, 0), lastWritten)).toISOString()
