/**
 * What all processes know of a resource, in Redis: its permits, until when it is held, how long its jobs take, and
 * whose turn it was last. Each process says what it has learned, and learns what the others have.
 *
 * | key | type | what it holds |
 * |---|---|---|
 * | `resource:<name>` | hash | `permits`; `configured`: the permits of the settings that set them; `heldUntil`, `serviceMillis` or nothing |
 * | `turns:<name>` | hash | when each caller had its last turn, in milliseconds since the epoch |
 */
import { Clock, Effect } from "effect"
import { longestWaitMillis } from "../../Job/Plausible.js"
import { type Client, command, type RedisError } from "../../Redis.js"
import { StoreError } from "../../Store.js"

/** A resource, as all know it. */
export interface Known {
  readonly permits: number
  readonly configured: number
  readonly heldUntil: number | null
  readonly serviceMillis: number | null
}

export interface Shared {
  /** `null`: nobody has said anything of it yet. */
  readonly read: (resource: string) => Effect.Effect<Known | null, StoreError>
  readonly write: (resource: string, known: Partial<Known>) => Effect.Effect<void, StoreError>
  readonly turns: (resource: string) => Effect.Effect<ReadonlyMap<string, number>, StoreError>
  readonly tookTurns: (resource: string, turns: ReadonlyMap<string, number>) => Effect.Effect<void, StoreError>
}

const failing = <A>(operation: string, effect: Effect.Effect<A, RedisError>): Effect.Effect<A, StoreError> =>
  Effect.catchTag(
    effect,
    "RedisError",
    ({ cause, detail }) => new StoreError({ operation, reason: "unavailable", detail, cause }),
  )

const number = (text: string | undefined): number | null => {
  const value = text === undefined || text === "" ? Number.NaN : Number(text)
  return Number.isFinite(value) ? value : null
}

/** How many callers' turns are kept; who had the oldest of more is taken for one that had none. */
const maxTurns = 10_000

/** How far the clocks of two processes may be apart. */
const clockMillis = 60 * 60 * 1000

/** Nobody holds a resource for longer than a downstream is believed: such a time is from before that was so. */
const heldUntil = (at: number | null, now: number): number | null =>
  at !== null && at <= now + longestWaitMillis + clockMillis ? at : null

export const make = (client: Client, prefix: string): Shared => {
  const key = (kind: "resource" | "turns", name: string) => `${prefix}${kind}:${encodeURIComponent(name)}`
  return {
    read: (resource) =>
      failing(
        "read",
        Effect.map(
          Effect.all([command(() => client.hgetall(key("resource", resource))), Clock.currentTimeMillis]),
          ([fields, now]) => {
            const permits = number(fields.permits)
            return permits === null
              ? null
              : {
                  permits,
                  configured: number(fields.configured) ?? permits,
                  heldUntil: heldUntil(number(fields.heldUntil), now),
                  serviceMillis: number(fields.serviceMillis),
                }
          },
        ),
      ),
    write: (resource, known) =>
      failing(
        "write",
        Effect.asVoid(
          command(() =>
            client.hset(
              key("resource", resource),
              Object.fromEntries(Object.entries(known).map(([field, value]) => [field, value ?? ""])),
            ),
          ),
        ),
      ),
    turns: (resource) =>
      failing(
        "turns",
        Effect.gen(function* () {
          const fields = yield* command(() => client.hgetall(key("turns", resource)))
          const turns = Object.entries(fields).map(([caller, at]): [string, number] => [caller, Number(at)])
          if (turns.length > maxTurns) {
            const oldest = turns.toSorted(([, a], [, b]) => a - b).slice(0, turns.length - maxTurns / 2)
            yield* command(() => client.hdel(key("turns", resource), ...oldest.map(([caller]) => caller)))
          }
          return new Map(turns)
        }),
      ),
    tookTurns: (resource, turns) =>
      turns.size === 0
        ? Effect.void
        : failing(
            "tookTurns",
            Effect.asVoid(command(() => client.hset(key("turns", resource), Object.fromEntries(turns)))),
          ),
  }
}
