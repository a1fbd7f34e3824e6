/**
 * Connections to Redis, for the store and for the dispatch of jobs. A command answers or fails within `commandMillis`;
 * one that failed may have been applied all the same, so that each must be safe to apply twice.
 */
import { createHash } from "node:crypto"
import { Effect, Schema, type Scope } from "effect"
import { Cluster, Redis, type RedisOptions } from "ioredis"

/** Redis did not do what it was asked, or nobody knows whether it did. */
export class RedisError extends Schema.TaggedError<RedisError>()("RedisError", {
  detail: Schema.String,
  cause: Schema.optional(Schema.Defect),
}) {
  override get message(): string {
    return this.detail
  }
}

/** Two of them, and what lies between, stay under the 2 s of the contract. */
export const commandMillis = 900

export type Client = Redis | Cluster

const options: RedisOptions = {
  connectTimeout: 5000,
  // A command waits for no reconnection: its caller knows better whether it is worth repeating.
  maxRetriesPerRequest: 0,
  enableOfflineQueue: false,
  enableAutoPipelining: true,
  retryStrategy: (times) => Math.min(times * 100, 2000),
  lazyConnect: true,
}

interface Address {
  readonly host: string
  readonly port: number
}

const addresses = (hosts: string, port: number): ReadonlyArray<Address> =>
  hosts.split(",").map((each) => {
    const [host = "", own] = each.split(":")
    return { host, port: own === undefined ? port : Number(own) }
  })

/**
 * `redis://` and `rediss://` as usual (`rediss://user:password@host:port/db`); `redis+cluster://a:6379,b:6379` and
 * `redis+sentinel://a:26379,b:26379/name`, with `s` after `redis` for TLS, and credentials before the hosts.
 */
export const parse = (url: string): { readonly make: (more: RedisOptions) => Client; readonly name: string } | null => {
  const match = /^redis(s)?(?:\+(cluster|sentinel))?:\/\/(?:([^@/]*)@)?([^/?]+)(?:\/([^?]*))?$/.exec(url)
  if (match === null) return null
  const [, secure, kind, credentials = "", hosts = "", path = ""] = match
  const [username = "", ...rest] = credentials.split(":").map(decodeURIComponent)
  const password = rest.join(":")
  const login: RedisOptions = {
    ...(username === "" ? {} : { username }),
    ...(password === "" ? {} : { password }),
    ...(secure === undefined ? {} : { tls: {} }),
  }
  if (kind === "cluster") {
    const nodes = [...addresses(hosts, 6379)]
    return {
      name: `cluster ${hosts}`,
      make: (more) =>
        new Cluster(nodes, {
          lazyConnect: true,
          enableOfflineQueue: false,
          enableAutoPipelining: true,
          redisOptions: { ...options, ...login, ...more },
        }),
    }
  }
  if (kind === "sentinel") {
    const sentinels = [...addresses(hosts, 26_379)]
    return {
      name: `sentinel ${hosts}`,
      make: (more) => new Redis({ ...options, ...login, ...more, sentinels, name: path }),
    }
  }
  const [address] = addresses(hosts, 6379)
  const db = path === "" ? 0 : Number(path)
  if (address === undefined || !Number.isInteger(db)) return null
  return {
    name: `${address.host}:${address.port}`,
    make: (more) => new Redis({ ...options, ...login, ...more, ...address, db }),
  }
}

/** What a command fails with. */
export const failed = (cause: unknown): RedisError =>
  new RedisError({
    detail: `Redis did not do it: ${cause instanceof Error ? cause.message : String(cause)}`,
    cause,
  })

/** Runs commands. */
export const command = <A>(run: () => Promise<A>): Effect.Effect<A, RedisError> =>
  Effect.tryPromise({ try: run, catch: failed })

/** Opens a connection, and closes it with the scope. Fails where Redis cannot be reached now, and says why. */
export const open = (make: () => Client): Effect.Effect<Client, RedisError, Scope.Scope> =>
  Effect.gen(function* () {
    let reason: Error | null = null
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const client = make()
        // A connection that is lost later is told by the commands that fail of it.
        client.on("error", (error: Error) => {
          reason = error
        })
        return client
      }),
      (client) => Effect.sync(() => client.disconnect()),
    )
    // What `connect` itself fails with says no more than that the connection is closed.
    yield* Effect.mapError(
      command(() => client.connect()),
      (error) => (reason === null ? error : failed(reason)),
    )
    return client
  })

/** A script, and the digest by which a Redis knows it that has seen it. */
export interface Script {
  readonly lua: string
  readonly sha: string
}

export const script = (lua: string): Script => ({ lua, sha: createHash("sha1").update(lua).digest("hex") })

/** Runs a script by its digest, or by its text where this Redis has not seen it yet. */
export const run = async (
  client: Client,
  { lua, sha }: Script,
  keys: ReadonlyArray<string>,
  args: ReadonlyArray<string | number>,
): Promise<unknown> => {
  try {
    return await client.evalsha(sha, keys.length, ...keys, ...args)
  } catch (error) {
    if (error instanceof Error && error.message.startsWith("NOSCRIPT")) {
      return await client.eval(lua, keys.length, ...keys, ...args)
    }
    throw error
  }
}
