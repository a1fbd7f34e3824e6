/** What the user of a Redis has to be allowed to do (its ACL), and whether it is: found at the start, and not by a job. */
import { Effect } from "effect"
import type { Client } from "../../Redis.js"
import { KvError } from "../Kv.js"
import type { Keys } from "./Keys.js"

/** What the store and BullMQ ask, their scripts included, each with arguments that change nothing that matters. */
export const asked = ({
  channel,
  ping: key,
}: Keys): ReadonlyArray<readonly [command: string, ...ReadonlyArray<string>]> => [
  // From here on the key is a text: what is meant for another kind is refused by its type, which needs the right first.
  ["SET", key, "1", "PX", "1000"],
  ["GET", key],
  ["EXISTS", key],
  ["PTTL", key],
  ["PEXPIRE", key, "1000"],
  ["PEXPIREAT", key, "9999999999999"],
  ["PERSIST", key],
  ["TYPE", key],
  ["INCR", key],
  ["INCRBY", key, "1"],
  ["TIME"],
  ["HSET", key, "f", "v"],
  ["HMSET", key, "f", "v"],
  ["HGET", key, "f"],
  ["HMGET", key, "f"],
  ["HGETALL", key],
  ["HKEYS", key],
  ["HDEL", key, "f"],
  ["HEXISTS", key, "f"],
  ["HINCRBY", key, "f", "1"],
  ["HLEN", key],
  ["LINDEX", key, "0"],
  ["LLEN", key],
  ["LPOP", key],
  ["LPOS", key, "v"],
  ["LPUSH", key, "v"],
  ["LRANGE", key, "0", "0"],
  ["LREM", key, "0", "v"],
  ["LSET", key, "0", "v"],
  ["LTRIM", key, "0", "-1"],
  ["RPOP", key],
  ["RPOPLPUSH", key, key],
  ["RPUSH", key, "v"],
  ["SADD", key, "v"],
  ["SCARD", key],
  ["SISMEMBER", key, "v"],
  ["SMEMBERS", key],
  ["SREM", key, "v"],
  ["XADD", key, "*", "f", "v"],
  ["XDEL", key, "1-1"],
  ["XLEN", key],
  ["XRANGE", key, "-", "+"],
  ["XTRIM", key, "MAXLEN", "0"],
  ["ZADD", key, "1", "v"],
  ["ZCARD", key],
  ["ZCOUNT", key, "1", "1"],
  ["ZLEXCOUNT", key, "-", "+"],
  ["ZPOPMIN", key],
  ["BZPOPMIN", key, "0.01"],
  ["ZRANGE", key, "0", "0"],
  ["ZRANGEBYLEX", key, "-", "+"],
  ["ZRANGEBYSCORE", key, "1", "1"],
  ["ZREM", key, "v"],
  ["ZREMRANGEBYRANK", key, "0", "0"],
  ["ZREMRANGEBYSCORE", key, "1", "1"],
  ["ZREVRANGE", key, "0", "0"],
  ["ZREVRANGEBYSCORE", key, "1", "1"],
  ["ZSCORE", key, "v"],
  ["EVAL", "return 1", "1", key],
  ["EVALSHA", "0", "1", key],
  ["PUBLISH", channel, ""],
  ["PING"],
  ["UNLINK", key],
  ["DEL", key],
]

/** Fails where the user may not ask what will be asked, and says what. */
export const checkRights = (client: Client, keys: Keys): Effect.Effect<void, KvError> =>
  Effect.gen(function* () {
    const refused = yield* Effect.forEach(
      asked(keys),
      ([name, ...args]) =>
        Effect.promise(() =>
          client.call(name, ...args).then(
            () => null,
            (error: unknown) =>
              error instanceof Error && error.message.startsWith("NOPERM") ? { name, why: error.message } : null,
          ),
        ),
      { concurrency: "unbounded" },
    )
    const [first, ...others] = refused.filter((each) => each !== null)
    if (first === undefined) return
    const names = [first, ...others].map(({ name }) => name).join(", ")
    return yield* new KvError({
      reason: "unavailable",
      detail: `The user of REDIS_URL may not do all that is needed: ${names} (${first.why}).`,
    })
  })
