/**
 * How fast a caller may submit, told in the `RateLimit` fields
 * (https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/), and how many streams and waits may be open.
 */
import { Clock, Context, Effect, Either, Layer, type Scope } from "effect"
import type { StoreError } from "../Offload.js"
import { OffloadConfig } from "../OffloadConfig.js"
import { Allowances, type Taken } from "./Allowances.js"
import type { Caller } from "./Caller.js"
import { Problem } from "./Problem.js"

/** How long, in seconds, an empty bucket takes to fill. */
const windowSeconds = 15

/** The fields that an answer carries; none where there is no limit. */
export type RateLimitFields = Readonly<Record<string, string>>

type Admitted = Either.Either<RateLimitFields, Problem | StoreError>

export class Admission extends Context.Tag("effect-offload/Admission")<
  Admission,
  {
    /** Takes a token of a caller, or refuses the submission. */
    readonly submit: (caller: Caller["Type"]) => Effect.Effect<RateLimitFields, Problem | StoreError>
    /** The same at the time `now`, without a fiber: calls back once. */
    readonly take: (caller: Caller["Type"], now: number, done: (admitted: Admitted) => void) => void
    /** Takes a place for a caller's stream until the scope ends, or refuses it. */
    readonly stream: (caller: string) => Effect.Effect<void, Problem | StoreError, Scope.Scope>
    /** The same for a wait; `false` where there is none, so that the call is answered at once. */
    readonly wait: (caller: string) => Effect.Effect<boolean, StoreError, Scope.Scope>
  }
>() {
  static readonly layer: Layer.Layer<Admission, never, OffloadConfig | Allowances> = Layer.effect(
    Admission,
    Effect.gen(function* () {
      const { maxStreams, maxStreamsPerCaller, maxSubmissions } = yield* OffloadConfig
      const allowances = yield* Allowances
      const take = maxSubmissions === null ? unlimited : limited(maxSubmissions, allowances)
      const wait = (caller: string) => allowances.enter(caller, { all: maxStreams, perCaller: maxStreamsPerCaller })
      return {
        take,
        submit: (caller) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            Effect.async<RateLimitFields, Problem | StoreError>((resume) => take(caller, now, resume)),
          ),
        wait,
        stream: (caller) => Effect.flatMap(wait(caller), (isIn) => (isIn ? Effect.void : tooManyStreams)),
      }
    }),
  )
}

type Take = Admission["Type"]["take"]

const unlimited: Take = (_caller, _now, done) => done(Either.right({}))

const limited = (maxSubmissions: number, allowances: Allowances["Type"]): Take => {
  const perSecond = maxSubmissions / 60
  const capacity = Math.max(1, Math.floor(perSecond * windowSeconds))

  const fields = (tokens: number): RateLimitFields => ({
    "ratelimit-policy": `"submissions";q=${capacity};w=${windowSeconds}`,
    ratelimit: `"submissions";r=${Math.floor(tokens)};t=${Math.ceil((capacity - tokens) / perSecond)}`,
  })

  const admitted = ({ isAllowed, tokens }: Taken): Either.Either<RateLimitFields, Problem> =>
    isAllowed
      ? Either.right(fields(tokens))
      : Either.left(
          new Problem({
            slug: "too-many-submissions",
            detail: `The caller may submit ${maxSubmissions} jobs in a minute. Nothing was saved.`,
            headers: { ...fields(tokens), "retry-after": String(Math.max(1, Math.ceil((1 - tokens) / perSecond))) },
          }),
        )

  return ({ name }, now, done) =>
    allowances.take(name, { capacity, perSecond }, now, (taken) => done(Either.flatMap(taken, admitted)))
}

const tooManyStreams = new Problem({
  slug: "too-many-streams",
  detail: "No further event stream can be opened now.",
  headers: { "retry-after": "5" },
})
