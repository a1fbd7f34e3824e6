/**
 * How fast a caller may submit: a token bucket each, told in the `RateLimit` fields
 * (https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/).
 */
import { Clock, Context, Effect, Either, Layer } from "effect"
import { OffloadConfig } from "../OffloadConfig.js"
import type { Caller } from "./Caller.js"
import { Problem } from "./Problem.js"

/** How long, in seconds, an empty bucket takes to fill. */
const windowSeconds = 15

/** The fields that an answer carries; none where there is no limit. */
export type RateLimitFields = Readonly<Record<string, string>>

const unlimited = Either.right<RateLimitFields>({})

interface Bucket {
  tokens: number
  /** When it held so many, in milliseconds since the epoch. */
  at: number
}

export class Admission extends Context.Tag("effect-offload/Admission")<
  Admission,
  {
    /** Takes a token of a caller, or refuses the submission. */
    readonly submit: (caller: Caller["Type"]) => Effect.Effect<RateLimitFields, Problem>
    /** The same at the time `now`, without a fiber. */
    readonly take: (caller: Caller["Type"], now: number) => Either.Either<RateLimitFields, Problem>
  }
>() {
  static readonly layer: Layer.Layer<Admission, never, OffloadConfig> = Layer.effect(
    Admission,
    Effect.map(OffloadConfig, ({ maxSubmissions }) => {
      if (maxSubmissions === null) return { submit: () => unlimited, take: () => unlimited }
      const perSecond = maxSubmissions / 60
      const capacity = Math.max(1, Math.floor(perSecond * windowSeconds))
      /** One a caller: there are as many as keys were given out. */
      const buckets = new Map<string, Bucket>()

      const fields = ({ tokens }: Bucket): RateLimitFields => ({
        "ratelimit-policy": `"submissions";q=${capacity};w=${windowSeconds}`,
        ratelimit: `"submissions";r=${Math.floor(tokens)};t=${Math.ceil((capacity - tokens) / perSecond)}`,
      })

      const take = ({ name }: Caller["Type"], now: number): Either.Either<RateLimitFields, Problem> => {
        const { at, tokens } = buckets.get(name) ?? { at: now, tokens: capacity }
        const filled = Math.min(capacity, tokens + (Math.max(0, now - at) / 1000) * perSecond)
        const isAllowed = filled >= 1
        const bucket = { at: now, tokens: isAllowed ? filled - 1 : filled }
        buckets.set(name, bucket)
        return isAllowed
          ? Either.right(fields(bucket))
          : Either.left(
              new Problem({
                slug: "too-many-submissions",
                detail: `The caller may submit ${maxSubmissions} jobs in a minute. Nothing was saved.`,
                headers: { ...fields(bucket), "retry-after": String(Math.ceil((1 - filled) / perSecond)) },
              }),
            )
      }
      return { submit: (caller) => Effect.flatMap(Clock.currentTimeMillis, (now) => take(caller, now)), take }
    }),
  )
}
