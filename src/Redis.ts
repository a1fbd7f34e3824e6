/**
 * Connections to Redis, for the store and for the dispatch of jobs. A command answers or fails within `commandMillis`;
 * one that failed may have been applied all the same, so that each must be safe to apply twice.
 */
import { createHash } from "node:crypto"
import { Effect, Either, Schema, type Scope } from "effect"
import { Cluster, Redis, type RedisOptions } from "ioredis"
import { makeFamily, watch } from "./Redis/Liveness.js"
import type { Place } from "./Redis/Url.js"
import * as Url from "./Redis/Url.js"

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

/** How long a sentinel is waited for before the next one is asked, in milliseconds. */
const sentinelMillis = 1000

export type Client = Redis | Cluster

const options: RedisOptions = {
  connectTimeout: 5000,
  keepAlive: 5000,
  // A command waits for no reconnection: its caller knows better whether it is worth repeating.
  maxRetriesPerRequest: 0,
  enableOfflineQueue: false,
  enableAutoPipelining: true,
  retryStrategy: (times) => Math.min(times * 100, 2000),
  lazyConnect: true,
}

/** A Redis that a URL names. */
export interface Address {
  /** A client that is not connected yet. One that is half-open, or led to a server that takes no writes, reconnects. */
  readonly make: (more: RedisOptions) => Client
  /** What may be logged of it. */
  readonly name: string
  /** The database that a server has to have. */
  readonly db: number
}

const connect = ({ db, hosts, kind, master, password, secure, username }: Place, more: RedisOptions): Client => {
  const all: RedisOptions = {
    ...options,
    ...(username === "" ? {} : { username }),
    ...(username === "" && password === "" ? {} : { password }),
    ...(secure ? { tls: {} } : {}),
    ...more,
  }
  switch (kind) {
    case "cluster":
      return new Cluster([...hosts], {
        lazyConnect: true,
        enableOfflineQueue: false,
        enableAutoPipelining: true,
        // A certificate is that of the name, and not of what the name resolves to.
        ...(secure ? { dnsLookup: (host, found) => found(null, host) } : {}),
        redisOptions: all,
      })
    case "sentinel":
      return new Redis({
        ...all,
        sentinels: [...hosts],
        name: master,
        // One that is silent is passed over.
        sentinelCommandTimeout: sentinelMillis,
        ...(secure ? { enableTLSForSentinelMode: true, sentinelTLS: {} } : {}),
      })
    case "server":
      return new Redis({ ...all, ...hosts[0], db })
  }
}

const nameOf = ({ kind, hosts }: Place): string => {
  const names = hosts.map(({ host, port }) => `${host.includes(":") ? `[${host}]` : host}:${port}`).join(",")
  return kind === "server" ? names : `${kind} ${names}`
}

/** `Redis/Url.ts` says which URLs there are. Or why it is none of them, in words that tell nothing of it. */
export const parse = (url: string): Either.Either<Address, RedisError> =>
  Either.mapBoth(Url.read(url), {
    onLeft: (reason) => new RedisError({ detail: `REDIS_URL is not understood: ${reason}` }),
    onRight: (place) => {
      const family = makeFamily()
      return {
        name: nameOf(place),
        db: place.db,
        make: (more) => {
          const client = connect(place, { reconnectOnError: family.reconnectOnError, ...more })
          family.add(client)
          watch(client)
          return client
        },
      }
    },
  })

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
export const open = (
  { db, make }: Pick<Address, "db" | "make">,
  more: RedisOptions,
): Effect.Effect<Client, RedisError, Scope.Scope> =>
  Effect.gen(function* () {
    let reason: Error | null = null
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const client = make(more)
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
    // The client itself goes on with database 0 where there is no other.
    if (db !== 0) yield* command(() => client.select(db))
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
