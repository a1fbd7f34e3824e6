/** How long a receiver asks to be left alone. */

/** A receiver that names a time far away must not keep a delivery for ever. */
const longestMillis = 24 * 60 * 60 * 1000

/** The statuses that come with a `Retry-After` (RFC 9110, RFC 6585). */
const waiting: ReadonlyArray<number> = [429, 503]

/** Milliseconds from `now`, from seconds or from a date; `null` where the answer does not tell. */
export const retryAfterMillis = (status: number, header: string | undefined, now: number): number | null => {
  const text = header?.trim() ?? ""
  if (!waiting.includes(status) || text === "") return null
  const millis = /^\d{1,10}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now
  return Number.isNaN(millis) ? null : Math.min(Math.max(millis, 0), longestMillis)
}
