/**
 * The order of a resource's ready jobs: callers in turn, beginning with the caller whose first job is the oldest, each
 * caller's own jobs by sequence. What is read grows with the callers, and not with the queue.
 */
import { Effect } from "effect"
import type { Job } from "../../Job.js"
import type { KvError } from "../Kv.js"
import { type Client, command } from "./Connection.js"
import type { Keys } from "./Keys.js"

/** The ids of the first `limit` jobs, without those of the callers in `skip`. */
export const first = (
  client: Client,
  keys: Keys,
  resource: string,
  limit: number,
  skip: ReadonlySet<string> = new Set(),
): Effect.Effect<ReadonlyArray<string>, KvError> =>
  Effect.gen(function* () {
    if (limit <= 0) return []
    // Each of these callers has a job in the first round, so that later ones have none among the first `limit`.
    const heads = yield* command(() => client.zrange(keys.heads(resource), 0, limit + skip.size - 1))
    const callers = heads.filter((caller) => !skip.has(caller)).slice(0, limit)
    const lines = yield* Effect.forEach(
      callers,
      (caller) => command(() => client.zrange(keys.ready(resource, caller), 0, limit - 1)),
      { concurrency: "unbounded" },
    )
    return inTurn(lines, limit)
  })

const inTurn = (lines: ReadonlyArray<ReadonlyArray<string>>, limit: number): ReadonlyArray<string> => {
  const ids: Array<string> = []
  for (let round = 0; ids.length < limit; round++) {
    const turn = lines.flatMap((line) => line[round] ?? [])
    if (turn.length === 0) return ids
    ids.push(...turn)
  }
  return ids.slice(0, limit)
}

/** How many jobs `first` gives before this ready job, counted up to `limit`. */
export const ahead = (client: Client, keys: Keys, job: Job, limit: number): Effect.Effect<number, KvError> =>
  Effect.gen(function* () {
    const { caller, id, resource } = job
    const [rank, heads] = yield* command(() =>
      Promise.all([client.zrank(keys.ready(resource, caller), id), client.zrange(keys.heads(resource), 0, -1)]),
    )
    const before = rank ?? 0
    const place = heads.indexOf(caller)
    const counts = yield* Effect.forEach(
      heads,
      (other, index) => {
        // A caller whose turn comes first has had one turn more when ours comes.
        const turns = index < place ? before + 1 : before
        return other === caller || turns === 0
          ? Effect.succeed(0)
          : Effect.map(
              command(() => client.zcard(keys.ready(resource, other))),
              (jobs) => Math.min(jobs, turns),
            )
      },
      { concurrency: "unbounded" },
    )
    return Math.min(
      limit,
      counts.reduce((sum, count) => sum + count, before),
    )
  })
