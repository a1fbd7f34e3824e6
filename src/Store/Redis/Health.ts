/** What is looked at before a Redis is trusted with jobs: its version, and what it may lose or throw away. */
import { Effect } from "effect"
import type { Client } from "../../Redis.js"
import { KvError } from "../Kv.js"
import { command } from "./Connection.js"
import type { Keys } from "./Keys.js"
import { checkRights } from "./Rights.js"

const field = (info: string, name: string): string | undefined => new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(info)?.[1]

/** `null`: this user may not ask. Managed services do not tell their configuration, and some of them nothing else. */
const unlessRefused = <A>(ask: () => Promise<A>): Effect.Effect<A | null, KvError> =>
  Effect.catchIf(
    command(ask),
    ({ detail }) => /unknown command|NOPERM/i.test(detail),
    () => Effect.succeed(null),
  )

const setting = (client: Client, name: string): Effect.Effect<string | null, KvError> =>
  Effect.map(
    unlessRefused(() => client.call("CONFIG", "GET", name)),
    (found) => {
      const value: unknown = Array.isArray(found) ? found[1] : null
      return typeof value === "string" ? value : null
    },
  )

const refuse = (detail: string) => new KvError({ reason: "unavailable", detail })

/** Says in the log what this Redis can lose; fails where it would throw jobs away, or lets us do less than is needed. */
export const check = (
  client: Client,
  { allowEviction, keys }: { readonly allowEviction: boolean; readonly keys: Keys },
): Effect.Effect<void, KvError> =>
  Effect.gen(function* () {
    yield* checkRights(client, keys)
    const info = yield* unlessRefused(() => client.info("server"))
    const version = info === null ? null : (field(info, "redis_version") ?? "unknown")
    if (version !== null && Number.parseFloat(version) < 6.2) {
      return yield* refuse(`Redis is version ${version}; 6.2 or later is needed.`)
    }

    const policy = yield* setting(client, "maxmemory-policy")
    if (policy !== null && policy !== "noeviction") {
      const what = `Redis has maxmemory-policy '${policy}', and so may throw jobs away`
      if (!allowEviction) {
        return yield* refuse(`${what}. Set it to 'noeviction', or OFFLOAD_REDIS_EVICTION to 'allow'.`)
      }
      yield* Effect.logWarning(what)
    }

    const [appendonly, fsync] = [yield* setting(client, "appendonly"), yield* setting(client, "appendfsync")]
    if (appendonly === "no") {
      yield* Effect.logWarning("Redis keeps no append-only file: its end loses what came after its last snapshot")
    } else if (appendonly === null) {
      yield* Effect.logInfo("Redis does not tell how it keeps its data")
    } else {
      const loss =
        fsync === "always" ? "nothing" : fsync === "everysec" ? "up to a second" : "what its system had not written"
      yield* Effect.logInfo(`Redis keeps an append-only file: a crash of its machine loses ${loss}`)
    }
    yield* Effect.logInfo(version === null ? "Redis does not tell its version" : `Redis ${version}`)
  }).pipe(Effect.annotateLogs({ module: "Store" }))
