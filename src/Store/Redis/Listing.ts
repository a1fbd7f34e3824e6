/** A caller's jobs, newest first: its index of each resource and state, merged by sequence. */
import { Effect } from "effect"
import { deliveries, Status } from "../../Job.js"
import type { Client } from "../../Redis.js"
import type { Counts, Page } from "../../Store.js"
import { jobIds } from "../Jobs.js"
import type { KvError } from "../Kv.js"
import { decodeCursor, encodeCursor, type Query } from "../Listing.js"
import { command, evaluate } from "./Connection.js"
import type { Jobs } from "./Jobs.js"
import { type Keys, parseCountField } from "./Keys.js"
import * as Scripts from "./Scripts.js"

const isStatus = (text: string): text is Status => Status.literals.some((status) => status === text)

export const counts = (client: Client, keys: Keys): Effect.Effect<ReadonlyMap<string, Counts>, KvError> =>
  Effect.map(
    command(() => client.hgetall(keys.counts)),
    (fields) => {
      const rows = new Map<string, { -readonly [status in Status]: number }>()
      for (const [field, count] of Object.entries(fields)) {
        const [resource, status] = parseCountField(field)
        if (!isStatus(status)) continue
        const row = rows.get(resource) ?? { queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0 }
        row[status] = Number(count)
        rows.set(resource, row)
      }
      return rows
    },
  )

interface Place {
  readonly id: string
  readonly sequence: number
}

const pairs = (flat: ReadonlyArray<string>): ReadonlyArray<Place> =>
  flat.flatMap((id, at) => (at % 2 === 0 ? [{ id, sequence: Number(flat[at + 1]) }] : []))

/** Of all indices at one moment: a job that moves from one to another meanwhile is in one of them. */
const readTogether = (
  client: Client,
  indices: ReadonlyArray<string>,
  below: number,
  limit: number,
): Effect.Effect<ReadonlyArray<ReadonlyArray<string>>, KvError> =>
  indices.length === 0
    ? Effect.succeed([])
    : Effect.map(evaluate(client, Scripts.list, indices, [below, limit]), (replies) =>
        Array.isArray(replies) ? replies.map((flat) => (Array.isArray(flat) ? flat.map(String) : [])) : [],
      )

/** A page of the jobs that can be read. */
export const list = (
  { client, keys, readAll }: Jobs,
  { caller, cursor, limit, resource, status }: Query & { readonly limit: number; readonly cursor?: string | undefined },
): Effect.Effect<Page, KvError> =>
  Effect.gen(function* () {
    const below = decodeCursor(cursor)
    const indices = [...(yield* counts(client, keys))]
      .filter(([name]) => (resource === undefined ? name !== deliveries : name === resource))
      .flatMap(([name]) =>
        (status === undefined ? Status.literals : [status]).map((each) =>
          keys.index({ caller, resource: name, status: each }),
        ),
      )
    const places = (yield* readTogether(client, indices, below, limit + 1))
      .flatMap(pairs)
      .sort((a, b) => b.sequence - a.sequence)
    const page = places.slice(0, limit)
    const last = page.at(-1)
    return {
      jobs: yield* readAll(jobIds(page.map(({ id }) => id))),
      cursor: places.length > limit && last !== undefined ? encodeCursor(last.sequence) : null,
    }
  })
