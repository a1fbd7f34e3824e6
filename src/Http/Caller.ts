/**
 * Who is asking: the caller whose key a request bears (RFC 6750). A caller sees its own jobs alone; a job of somebody
 * else is answered as one that does not exist.
 */
import { timingSafeEqual } from "node:crypto"
import { HttpRouter, HttpServerRequest } from "@effect/platform"
import { Context, Effect, Either, Schema } from "effect"
import { type Job, JobId } from "../Job.js"
import { anonymous } from "../Offload/Corroboration.js"
import { JobNotFound, Offload, type StoreError } from "../Offload.js"
import { digestOf, type KnownCaller } from "../OffloadConfig.js"
import { Keyring } from "./Keyring.js"
import { Problem } from "./Problem.js"

/** The caller of the current request. */
export class Caller extends Context.Tag("effect-offload/Caller")<
  Caller,
  {
    readonly name: string
    /** Whether it may change resources and read metrics. */
    readonly isAdmin: boolean
    /** The SHA-256 of the key that the request bears; `null` where none is needed. */
    readonly digest: Buffer | null
  }
>() {}

/** Where there are no keys, everybody who can reach the service is the same caller. */
const everybody: Caller["Type"] = { name: anonymous, isAdmin: true, digest: null }

/** For calls that need no key. */
export const nobody: Caller["Type"] = { name: "nobody", isAdmin: false, digest: null }

/** In a time that does not tell how much of a key was right. */
const holderOf = (callers: ReadonlyArray<KnownCaller>, digest: Buffer): KnownCaller | undefined =>
  callers.filter(({ digests }) => digests.filter((known) => timingSafeEqual(known, digest)).length > 0)[0]

/** Whether the key of a request is still that of its caller. */
export const isCurrent = ({ digest, name }: Caller["Type"], callers: ReadonlyArray<KnownCaller>): boolean =>
  digest === null || holderOf(callers, digest)?.name === name

/** The caller whose key a request bears. */
export const callerOf = (
  authorization: string | undefined,
  callers: ReadonlyArray<KnownCaller>,
): Either.Either<Caller["Type"], Problem> => {
  if (callers.length === 0) return Either.right(everybody)
  const key = /^bearer +([\x21-\x7e]+)$/i.exec(authorization ?? "")?.[1]
  const digest = key === undefined ? null : digestOf(key)
  const caller = digest === null ? undefined : holderOf(callers, digest)
  return Either.map(
    Either.fromNullable(
      caller,
      () =>
        new Problem({
          slug: "unauthorized",
          detail: key === undefined ? "The request bears no key." : "The key is not known.",
          headers: { "www-authenticate": key === undefined ? "Bearer" : 'Bearer error="invalid_token"' },
        }),
    ),
    ({ isAdmin, name }) => ({ name, isAdmin, digest }),
  )
}

/** The caller whose key the current request bears. */
export const identify: Effect.Effect<Caller["Type"], Problem, HttpServerRequest.HttpServerRequest | Keyring> =
  Effect.flatMap(Effect.all([HttpServerRequest.HttpServerRequest, Keyring]), ([{ headers }, { callers }]) =>
    callerOf(headers.authorization, callers()),
  )

/** Refuses a caller that is no admin. */
export const requireAdmin: Effect.Effect<void, Problem, Caller> = Effect.flatMap(Caller, ({ isAdmin }) =>
  isAdmin ? Effect.void : new Problem({ slug: "forbidden", detail: "This call needs the key of an admin." }),
)

/** The job of an id, if it is the caller's. */
export const own = (id: string | undefined): Effect.Effect<Job, JobNotFound | StoreError | Problem, Caller | Offload> =>
  Effect.gen(function* () {
    if (!Schema.is(JobId)(id)) {
      return yield* new Problem({ slug: "job-not-found", detail: "There is no job with this id." })
    }
    const { name } = yield* Caller
    const job = yield* (yield* Offload).job(id)
    return job.caller === name ? job : yield* new JobNotFound({ id })
  })

/** The job whose id stands in the path: one of the caller's, or a delivery, which an admin may send again. */
export const ownJobOrDelivery = Effect.gen(function* () {
  const { params } = yield* HttpRouter.RouteContext
  const { isAdmin, name } = yield* Caller
  if (!isAdmin || !Schema.is(JobId)(params.id)) return yield* own(params.id)
  const job = yield* (yield* Offload).job(params.id)
  return job.caller === name || job.deliveryOf !== null ? job : yield* new JobNotFound({ id: job.id })
})

/** The caller's job whose id stands in the path. */
export const ownJob = Effect.flatMap(HttpRouter.RouteContext, ({ params }) => own(params.id))
