/**
 * What callers may have of a fleet. The time is that of Redis, so that no clock is compared with another.
 *
 * | key | type | what it holds |
 * |---|---|---|
 * | `bucket:<caller>` | hash | `tokens` at the time `at`, in milliseconds since the epoch; gone when it is full again |
 * | `places`, `places:<caller>` | sorted set | the places that are taken, each with the time until which it is |
 */
import { randomUUID } from "node:crypto"
import { Effect, Either, Layer, Redacted, Schedule } from "effect"
import { StoreError } from "../../Offload.js"
import { OffloadConfig } from "../../OffloadConfig.js"
import * as Redis from "../../Redis.js"
import { Allowances } from "../Allowances.js"

/** How long a place is taken without another word of its process, and how often it says it. */
const leaseMillis = 30_000
const renewMillis = 10_000

/**
 * Takes a token.
 *
 * KEYS: 1 the bucket. ARGV: 1 its capacity, 2 the tokens that a millisecond brings.
 * Reply: 1 where there was a token, else 0; the tokens that are left, as a text.
 */
const take = Redis.script(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local capacity, rate = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(found[1]) or capacity
tokens = math.min(capacity, tokens + math.max(0, now - (tonumber(found[2]) or now)) * rate)
local allowed = tokens >= 1 and 1 or 0
tokens = tokens - allowed
redis.call('HSET', KEYS[1], 'tokens', string.format('%.9f', tokens), 'at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil((capacity - tokens) / rate) + 1000)
return { allowed, string.format('%.9f', tokens) }`)

/**
 * Takes a place.
 *
 * KEYS: 1 the places of all, 2 those of the caller. ARGV: 1 the name of the place, 2 its lease in milliseconds, 3 how
 * many there are, 4 how many of a caller.
 * Reply: 1, or 0 where there is none.
 */
const enter = Redis.script(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for at, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  if redis.call('ZCARD', key) >= tonumber(ARGV[2 + at]) then return 0 end
end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', key, ARGV[2])
end
return 1`)

/**
 * Keeps places, also those that a Redis has lost.
 *
 * KEYS: the sets, one for each name. ARGV: 1 the lease in milliseconds, then the names.
 * Reply: nothing.
 */
const renew = Redis.script(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for at, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[1], ARGV[1 + at])
  redis.call('PEXPIRE', key, ARGV[1])
end`)

const toStoreError =
  (operation: string) =>
  ({ cause, detail }: Redis.RedisError): StoreError =>
    new StoreError({ operation, reason: "unavailable", detail, cause })

const number = (value: unknown): number => (typeof value === "string" ? Number(value) : Number.NaN)

const make = Effect.gen(function* () {
  const { redisPrefix: prefix, redisUrl } = yield* OffloadConfig
  const address = yield* Effect.mapError(Redis.parse(Redacted.value(redisUrl)), toStoreError("open"))
  const client = yield* Effect.mapError(
    Redis.open(address, { commandTimeout: Redis.commandMillis }),
    toStoreError("open"),
  )
  const key = (kind: string, caller: string) => `${prefix}${kind}:${encodeURIComponent(caller)}`
  const all = `${prefix}places`
  /** The places that this process has, each with the set of its caller. */
  const held = new Map<string, string>()
  const process = randomUUID()
  let next = 0

  const leave = (place: string, own: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      held.delete(place)
      return Redis.command(() => Promise.all([client.zrem(all, place), client.zrem(own, place)])).pipe(
        // Its lease ends by itself.
        Effect.catchTag("RedisError", ({ message }) =>
          Effect.logDebug("a place is left when its lease ends").pipe(
            Effect.annotateLogs({ module: "Http", error: message }),
          ),
        ),
      )
    })

  const renewAll = Effect.suspend(() => {
    const names = [...held].flatMap(([place, own]) => [
      [all, place],
      [own, place],
    ])
    return names.length === 0
      ? Effect.void
      : Redis.command(() =>
          Redis.run(
            client,
            renew,
            names.map(([set = ""]) => set),
            [leaseMillis, ...names.map(([, place = ""]) => place)],
          ),
        )
  }).pipe(
    Effect.catchTag("RedisError", ({ message }) =>
      Effect.logWarning("places of streams not kept: Redis is out of reach").pipe(
        Effect.annotateLogs({ module: "Http", error: message }),
      ),
    ),
  )
  yield* Effect.forkScoped(Effect.schedule(renewAll, Schedule.spaced(renewMillis)))

  return Allowances.of({
    take: (caller, { capacity, perSecond }, _now, done) => {
      Redis.run(client, take, [key("bucket", caller)], [capacity, perSecond / 1000]).then(
        (reply) => {
          const [allowed, tokens] = Array.isArray(reply) ? reply : []
          done(Either.right({ isAllowed: allowed === 1, tokens: number(tokens) }))
        },
        (cause) => done(Either.left(toStoreError("take")(Redis.failed(cause)))),
      )
    },
    enter: (caller, places) =>
      Effect.acquireRelease(
        Effect.suspend(() => {
          const own = key("places", caller)
          const place = `${process}:${next++}`
          const limits = [places.all, places.perCaller ?? places.all]
          return Redis.command(() => Redis.run(client, enter, [all, own], [place, leaseMillis, ...limits])).pipe(
            Effect.map((reply) => {
              if (reply === 1) held.set(place, own)
              return { isIn: reply === 1, place, own }
            }),
            Effect.mapError(toStoreError("enter")),
          )
        }),
        ({ isIn, own, place }) => (isIn ? leave(place, own) : Effect.void),
      ).pipe(Effect.map(({ isIn }) => isIn)),
  })
})

/** Needs `REDIS_URL`. Fails to build where it cannot be reached. */
export const layer: Layer.Layer<Allowances, StoreError, OffloadConfig> = Layer.scoped(Allowances, make)
