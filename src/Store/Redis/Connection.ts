/** Commands and scripts of the store, which fail as its backends do. */
import { Effect, Either, FiberRef, GlobalValue, type Scope } from "effect"
import * as Redis from "../../Redis.js"
import { KvError } from "../Kv.js"

/** What Redis says before it does anything, and what the client says of a command that it did not send. */
const unmade =
  /^(OOM|READONLY|LOADING|BUSY|MISCONF|NOREPLICAS|NOAUTH|WRONGPASS|NOPERM|MASTERDOWN|CLUSTERDOWN|NOSCRIPT)\b|enableOfflineQueue/

const toKvError = ({ cause, detail }: Redis.RedisError): KvError =>
  new KvError({
    reason: "unavailable",
    detail,
    cause,
    unmade: cause instanceof Error && unmade.test(cause.message),
    full: cause instanceof Error && cause.message.startsWith("OOM"),
  })

const failing = <A, R>(effect: Effect.Effect<A, Redis.RedisError, R>): Effect.Effect<A, KvError, R> =>
  Effect.catchTag(effect, "RedisError", toKvError)

/** How long an operation of the store may take, with all its commands, in milliseconds: the contract has 2 s. */
const operationMillis = 1900

/** When the operation of a fiber has to have ended, on the machine's clock; `null`: it is none of the store's. */
const deadline = GlobalValue.globalValue("effect-offload/Store/Redis/deadline", () =>
  FiberRef.unsafeMake<number | null>(null),
)

/** Gives an operation its time, which all its commands share. */
export const inTime = <A, E, R>(operation: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => Effect.locally(operation, deadline, performance.now() + operationMillis))

const tooLate = (unmade: boolean) =>
  new KvError({ reason: "unavailable", detail: `Redis did not do it within ${operationMillis / 1000} s`, unmade })

/** Ends the wait for a command at the deadline; the command itself may yet be done. */
const until = <A>(left: number, run: () => Promise<A>): Effect.Effect<A, KvError> =>
  Effect.async((resume) => {
    const timer = setTimeout(() => resume(tooLate(false)), left)
    const end = (result: Effect.Effect<A, KvError>) => {
      clearTimeout(timer)
      resume(result)
    }
    run().then(
      (value) => end(Effect.succeed(value)),
      (cause) => end(toKvError(Redis.failed(cause))),
    )
    return Effect.sync(() => clearTimeout(timer))
  })

/** Runs commands, within the time that their operation has left. */
export const command = <A>(run: () => Promise<A>): Effect.Effect<A, KvError> =>
  Effect.flatMap(FiberRef.get(deadline), (at) => {
    const left = at === null ? Number.POSITIVE_INFINITY : at - performance.now()
    // A command has a limit of its own, which is enough for all but the last ones.
    if (left > Redis.commandMillis) return failing(Redis.command(run))
    return left > 0 ? until(left, run) : tooLate(true)
  })

/** Opens a connection, and closes it with the scope. Fails where Redis cannot be reached now. */
export const open = (...how: Parameters<typeof Redis.open>): Effect.Effect<Redis.Client, KvError, Scope.Scope> =>
  failing(Redis.open(...how))

/** As `Redis.parse` reads it. */
export const parse = (url: string): Effect.Effect<Redis.Address, KvError> => failing(Redis.parse(url))

type Arguments = Parameters<typeof Redis.run>

/** Runs a script by its digest, or by its text where this Redis has not seen it yet. */
export const evaluate = (...call: Arguments): Effect.Effect<unknown, KvError> => command(() => Redis.run(...call))

/** The same without a fiber: calls back once. */
export const evaluateThen = (done: (reply: Either.Either<unknown, KvError>) => void, ...call: Arguments): void => {
  Redis.run(...call).then(
    (reply) => done(Either.right(reply)),
    (cause) => done(Either.left(toKvError(Redis.failed(cause)))),
  )
}
