/** What is looked at before a Redis is trusted with jobs: its version, and what it may lose or throw away. */
import { Effect } from "effect"
import type { Client } from "../../Redis.js"
import { KvError } from "../Kv.js"
import { command } from "./Connection.js"

const field = (info: string, name: string): string | undefined => new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(info)?.[1]

const setting = (client: Client, name: string): Effect.Effect<string | null, KvError> =>
  command(async () => {
    try {
      const [, value] = (await client.call("CONFIG", "GET", name)) as ReadonlyArray<unknown>
      return typeof value === "string" ? value : null
    } catch (error) {
      // Managed services do not tell their configuration.
      if (error instanceof Error && /unknown command|NOPERM/i.test(error.message)) return null
      throw error
    }
  })

const refuse = (detail: string) => new KvError({ reason: "unavailable", detail })

/** Says in the log what this Redis can lose; fails where it would throw jobs away. */
export const check = (client: Client, options: { readonly allowEviction: boolean }): Effect.Effect<void, KvError> =>
  Effect.gen(function* () {
    const version = field(yield* command(() => client.info("server")), "redis_version") ?? "unknown"
    if (Number.parseFloat(version) < 6.2) return yield* refuse(`Redis is version ${version}; 6.2 or later is needed.`)

    const policy = yield* setting(client, "maxmemory-policy")
    if (policy !== null && policy !== "noeviction") {
      const what = `Redis has maxmemory-policy '${policy}', and so may throw jobs away`
      if (!options.allowEviction) {
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
    yield* Effect.logInfo(`Redis ${version}`)
  }).pipe(Effect.annotateLogs({ module: "Store" }))
