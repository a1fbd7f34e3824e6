/**
 * When a downstream may be asked again, as it tells in words. The words come from outside: no pattern here may go back
 * over what it has read more than a few characters.
 */
import { moment, momentOf } from "../Job/Plausible.js"

const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** Where a duration begins. */
const after = /(?:retry[ _-]?after|try again in|retry in|resets? in|reset after|available in)(?![a-z])/i

/** One part of a duration, from where the last one ended. */
const part =
  /[\s:="',]{0,3}(?:and )?(\d{1,10}(?:\.\d{1,10})?) ?(?:(milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-z])|(?![a-z\d]|\.\d))/iy

/** `1m30s`, `11.054s`, `2 hours, 5 minutes`, `500ms`; a number without a unit is seconds. */
const duration = (text: string): number | undefined => {
  let millis: number | undefined
  part.lastIndex = 0
  for (let found = part.exec(text); found !== null; found = part.exec(text)) {
    const [, amount, name = "s"] = found
    const unit = /^m(?:s|illi)/i.test(name) ? "ms" : name.charAt(0).toLowerCase()
    millis = (millis ?? 0) + Number(amount) * (units[unit] ?? 1000)
  }
  return millis
}

/** Seconds or milliseconds since the epoch, as in `limit reached|1749924000` or `"resetsAt":1749924000`. */
const epoch = /(?:limit reached\||resets?[ _-]?at["']?[\s:=]{0,3})(\d{10}(?:\d{3})?)(?!\d)/i

const iso =
  /(?:try again|resets?|retry)[ _-]?(?:at|after|on)?["']?[\s:="]{0,3}(\d{4}-\d\d-\d\dT[\d:.]{5,20}(?:Z|[+-]\d\d:?\d\d))/i

/** `try again at 12:45 PM`, `resets 3am`: a time of the day, in the time zone of this machine if none is named. */
const ofTheDay = /(?:try again|resets?)(?: at)? (\d{1,2})(?::(\d\d))? ?([ap])\.?m\b(?! ?\()/i

/** What is a day ahead but for a moment has just passed: the message was a little late. */
const longestMillis = 23.5 * 3_600_000

/** The next moment at which it is that time. */
const nextTime = (hour: number, minute: number, now: number): number | undefined => {
  const at = new Date(now)
  at.setHours(hour, minute, 0, 0)
  if (at.getTime() <= now) at.setDate(at.getDate() + 1)
  return at.getTime() - now > longestMillis ? undefined : at.getTime()
}

const timeOfDay = (text: string, now: number): number | undefined => {
  const [found, hour, minute = "0", half = ""] = ofTheDay.exec(text) ?? []
  if (found === undefined || Number(hour) < 1 || Number(hour) > 12 || Number(minute) > 59) return undefined
  return nextTime((Number(hour) % 12) + (half.toLowerCase() === "p" ? 12 : 0), Number(minute), now)
}

/** Of a date that the calendar has: that of the 30th of February is another day's. */
const dateTime = (text: string): number | undefined => {
  const day = text.slice(0, 10)
  const midnight = new Date(`${day}T00:00:00Z`)
  return !Number.isNaN(midnight.getTime()) && midnight.toISOString().startsWith(day) ? Date.parse(text) : undefined
}

/** Milliseconds since the epoch; `undefined` where the text does not tell, or tells a time that there is not. */
export const retryAt = (text: string, now: number): number | undefined => moment(found(text, now))

const found = (text: string, now: number): number | undefined => {
  const [, sinceEpoch] = epoch.exec(text) ?? []
  if (sinceEpoch !== undefined) return momentOf(Number(sinceEpoch))
  const [, date] = iso.exec(text) ?? []
  if (date !== undefined) return dateTime(date)
  const start = after.exec(text)
  const millis = start === null ? undefined : duration(text.slice(start.index + start[0].length))
  return millis === undefined ? timeOfDay(text, now) : now + millis
}
