/**
 * The connections to Redis: one for commands, one that listens. A command answers or fails within `commandMillis`; one
 * that failed may have been applied all the same, so that each must be safe to apply twice.
 */
import { Effect, type Scope } from "effect"
import { Cluster, Redis, type RedisOptions } from "ioredis"
import { KvError } from "../Kv.js"
import type { Script } from "./Scripts.js"

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

const unavailable = (cause: unknown): KvError =>
  new KvError({
    reason: "unavailable",
    detail: `Redis did not do it: ${cause instanceof Error ? cause.message : String(cause)}`,
    cause,
  })

/** Runs commands, which are rejected with `KvError` alone. */
export const command = <A>(run: () => Promise<A>): Effect.Effect<A, KvError> =>
  Effect.tryPromise({ try: run, catch: unavailable })

/** Runs a script by its digest, or by its text where this Redis has not seen it yet. */
export const evaluate = (
  client: Client,
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

/** Opens a connection, and closes it with the scope. Fails where Redis cannot be reached now. */
export const open = (make: () => Client): Effect.Effect<Client, KvError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const client = make()
      // A lost connection is told by the commands that fail of it.
      client.on("error", () => {})
      return client
    }),
    (client) => Effect.sync(() => client.disconnect()),
  ).pipe(Effect.tap((client) => command(() => client.connect())))
