/** Commands and scripts of the store, which fail as its backends do. */
import { Effect, type Scope } from "effect"
import * as Redis from "../../Redis.js"
import { KvError } from "../Kv.js"
import type { Script } from "./Scripts.js"

const failing = <A, R>(effect: Effect.Effect<A, Redis.RedisError, R>): Effect.Effect<A, KvError, R> =>
  Effect.catchTag(effect, "RedisError", ({ cause, detail }) => new KvError({ reason: "unavailable", detail, cause }))

/** Runs commands. */
export const command = <A>(run: () => Promise<A>): Effect.Effect<A, KvError> => failing(Redis.command(run))

/** Opens a connection, and closes it with the scope. Fails where Redis cannot be reached now. */
export const open = (make: () => Redis.Client): Effect.Effect<Redis.Client, KvError, Scope.Scope> =>
  failing(Redis.open(make))

/** Runs a script by its digest, or by its text where this Redis has not seen it yet. */
export const evaluate = (
  client: Redis.Client,
  { lua, sha }: Script,
  keys: ReadonlyArray<string>,
  args: ReadonlyArray<string | number>,
): Effect.Effect<unknown, KvError> =>
  command(async () => {
    try {
      return await client.evalsha(sha, keys.length, ...keys, ...args)
    } catch (error) {
      if (error instanceof Error && error.message.startsWith("NOSCRIPT")) {
        return await client.eval(lua, keys.length, ...keys, ...args)
      }
      throw error
    }
  })
