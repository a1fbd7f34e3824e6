/** The limits of one caller, or of one receiver of webhooks, where their settings say `auto`: a share of the whole. */

/** A limit as a setting has it: a number, `auto`, or `null` where there is none. */
export type Limit = number | "auto" | null

/** A small whole is left to whoever comes, so that a caller that is alone can use it. */
const leastQueued = 100
const leastSubmissions = 600
const leastStreams = 10

const half = (whole: number): number => Math.ceil(whole / 2)

const or = (limit: Limit, auto: number | null): number | null => (limit === "auto" ? auto : limit)

interface Settings {
  readonly maxQueued: number
  readonly maxQueuedPerCaller: Limit
  readonly maxStoreBytes: number | null
  readonly maxBytesPerCaller: Limit
  readonly maxSubmissions: Limit
  readonly maxStreams: number
  readonly maxStreamsPerCaller: Limit
  readonly webhookPermits: number
  readonly webhookPermitsPerCaller: Limit
  readonly webhookPermitsPerHost: Limit
}

/** The limits in numbers; `null` where there is none. Without keys there is one caller, which needs no share. */
export const shares = (settings: Settings, hasKeys: boolean) => {
  const { maxQueued, maxStoreBytes, maxStreams, webhookPermits } = settings
  const withKeys = (auto: number) => (hasKeys ? auto : null)
  return {
    maxQueuedPerCaller: or(settings.maxQueuedPerCaller, withKeys(Math.max(leastQueued, half(maxQueued)))),
    maxBytesPerCaller: or(settings.maxBytesPerCaller, maxStoreBytes === null ? null : withKeys(half(maxStoreBytes))),
    maxSubmissions: or(settings.maxSubmissions, withKeys(Math.max(leastSubmissions, Math.ceil(maxQueued / 10)))),
    maxStreamsPerCaller: or(settings.maxStreamsPerCaller, withKeys(Math.max(leastStreams, half(maxStreams)))),
    webhookPermitsPerCaller: or(settings.webhookPermitsPerCaller, withKeys(half(webhookPermits))),
    webhookPermitsPerHost: or(settings.webhookPermitsPerHost, half(webhookPermits)),
  }
}
