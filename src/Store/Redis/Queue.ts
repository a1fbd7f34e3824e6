/**
 * The order of a resource's ready jobs, as in `../Queue.ts`: callers in turn, each caller's own jobs by sequence. What is read grows with the callers, and not with the queue.
 */
import { Effect } from "effect"
import { deliveries, type Job } from "../../Job.js"
import type { Client } from "../../Redis.js"
import type { Turns } from "../../Store.js"
import type { KvError } from "../Kv.js"
import { inOrder, type Line } from "../Queue.js"
import { command, evaluate } from "./Connection.js"
import { countField, type Keys } from "./Keys.js"
import * as Scripts from "./Scripts.js"

const lines = (client: Client, keys: Keys, resource: string): Effect.Effect<ReadonlyArray<Line>, KvError> =>
  Effect.map(
    command(() => client.zrange(keys.heads(resource), 0, -1, "WITHSCORES")),
    (flat) => flat.flatMap((caller, at) => (at % 2 === 0 ? [{ caller, head: Number(flat[at + 1]) }] : [])),
  )

/**
 * The same of a Redis that throws keys away: what is no more is forgotten, or it would stand before all others, and
 * take their place, for ever.
 */
export const firstPresent = (...[client, keys, resource, limit, order]: Parameters<typeof first>): Found =>
  Effect.gen(function* () {
    const ids = yield* first(client, keys, resource, limit, order)
    const present = yield* Effect.forEach(ids, (id) => command(() => client.exists(keys.job(id))), {
      concurrency: "unbounded",
    })
    const gone = ids.filter((_, at) => present[at] === 0)
    if (gone.length === 0) return ids
    const forgotten = yield* Effect.forEach(yield* lines(client, keys, resource), ({ caller }) =>
      Effect.forEach(gone, (id) => forget(client, keys, resource, caller, id), { concurrency: "unbounded" }),
    )
    // What another node has forgotten is not there the next time.
    return forgotten.flat().some((is) => is) ? yield* firstPresent(client, keys, resource, limit, order) : []
  })

const forget = (client: Client, keys: Keys, resource: string, caller: string, id: string) =>
  Effect.map(
    evaluate(
      client,
      Scripts.forget,
      [
        keys.ready(resource, caller),
        keys.heads(resource),
        keys.job(id),
        keys.index({ caller, resource, status: "queued" }),
        keys.counts,
        keys.queued,
      ],
      [id, caller, countField(resource, "queued"), resource === deliveries ? "" : "1"],
    ),
    (reply) => reply === 1,
  )

type Found = Effect.Effect<ReadonlyArray<string>, KvError>

/** The ids of the first `limit` jobs. */
export const first = (client: Client, keys: Keys, resource: string, limit: number, order: Turns = {}): Found =>
  Effect.gen(function* () {
    if (limit <= 0) return []
    // Each of these callers has a job in the first round, so that later ones have none among the first `limit`.
    const callers = (yield* lines(client, keys, resource))
      .filter(({ caller }) => order.skip?.has(caller) !== true)
      .sort(inOrder(order))
      .slice(0, limit)
    const jobs = yield* Effect.forEach(
      callers,
      ({ caller }) => command(() => client.zrange(keys.ready(resource, caller), 0, limit - 1)),
      { concurrency: "unbounded" },
    )
    return inTurn(jobs, limit)
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
export const ahead = (
  client: Client,
  keys: Keys,
  job: Job,
  limit: number,
  order: Turns = {},
): Effect.Effect<number, KvError> =>
  Effect.gen(function* () {
    const { caller, id, resource, sequence } = job
    const before = (yield* command(() => client.zrank(keys.ready(resource, caller), id))) ?? 0
    const all = yield* lines(client, keys, resource)
    const own = all.find((line) => line.caller === caller) ?? { caller, head: sequence }
    const compare = inOrder(order)
    const counts = yield* Effect.forEach(
      all,
      (line) => {
        // A caller whose turn comes first has had one turn more when ours comes.
        const turns = compare(line, own) < 0 ? before + 1 : before
        return line.caller === caller || turns === 0
          ? Effect.succeed(0)
          : Effect.map(
              command(() => client.zcard(keys.ready(resource, line.caller))),
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
