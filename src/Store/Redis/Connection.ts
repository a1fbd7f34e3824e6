/** Commands and scripts of the store, which fail as its backends do. */
import { Effect, Either, type Scope } from "effect"
import * as Redis from "../../Redis.js"
import { KvError } from "../Kv.js"
import type { Script } from "./Scripts.js"

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

/** Runs commands. */
export const command = <A>(run: () => Promise<A>): Effect.Effect<A, KvError> => failing(Redis.command(run))

/** Opens a connection, and closes it with the scope. Fails where Redis cannot be reached now. */
export const open = (make: () => Redis.Client): Effect.Effect<Redis.Client, KvError, Scope.Scope> =>
  failing(Redis.open(make))

type Arguments = readonly [
  client: Redis.Client,
  script: Script,
  keys: ReadonlyArray<string>,
  args: ReadonlyArray<string | number>,
]

const run = async (...[client, { lua, sha }, keys, args]: Arguments): Promise<unknown> => {
  try {
    return await client.evalsha(sha, keys.length, ...keys, ...args)
  } catch (error) {
    if (error instanceof Error && error.message.startsWith("NOSCRIPT")) {
      return await client.eval(lua, keys.length, ...keys, ...args)
    }
    throw error
  }
}

/** Runs a script by its digest, or by its text where this Redis has not seen it yet. */
export const evaluate = (...call: Arguments): Effect.Effect<unknown, KvError> => command(() => run(...call))

/** The same without a fiber: calls back once. */
export const evaluateThen = (done: (reply: Either.Either<unknown, KvError>) => void, ...call: Arguments): void => {
  run(...call).then(
    (reply) => done(Either.right(reply)),
    (cause) => done(Either.left(toKvError(Redis.failed(cause)))),
  )
}
