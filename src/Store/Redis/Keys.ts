/**
 * What stands in Redis, and under which key. The hash tag in the prefix keeps all keys in one slot, so that a script
 * may touch them together on Redis Cluster too.
 *
 * | key | type | what it holds |
 * |---|---|---|
 * | `job:<id>` | hash | `job`, `input`: JSON; `v`: counts the changes of the record |
 * | `log:<id>` | stream | the events of its log but the first, which the record tells, `<number>-0` |
 * | `index:<caller>:<resource>:<status>` | sorted set | ids by sequence |
 * | `ready:<resource>:<caller>` | sorted set | ids of jobs that can be claimed now, by sequence |
 * | `heads:<resource>` | sorted set | callers with ready jobs, by the sequence of their first |
 * | `running` | hash | the node that claimed it, by id |
 * | `nodes` | hash | what each node said last, by its name: see `Nodes.ts` |
 * | `drained:<node>` | text | the node said that it drains; expires |
 * | `keeper` | text | the node that does what one of them has to do; expires |
 * | `due:backoff` `due:deadline` `due:retention` | sorted set | ids by the time they count from |
 * | `counts` | hash | how many jobs, by resource and status |
 * | `queued` | hash | how many jobs are queued, by caller; deliveries are not counted |
 * | `bytes` | hash | how many bytes its jobs take, by caller; `bytes` of a job says how many are its own |
 * | `allbytes` | number | how many all jobs take |
 * | `idempotency:<digest>` | hash | the first use of a key; with `endedAt` and an expiry once its job is removed |
 * | `sequence` | number | of the newest job |
 */
import type { Job, Status } from "../../Job.js"
import * as Key from "../Key.js"

export type Due = "backoff" | "deadline" | "retention"

export const make = (prefix: string) => {
  const key = (...parts: ReadonlyArray<string>) => prefix + parts.join(":")
  /** Callers and resources may hold any character, and so the separator too. */
  const part = (text: string) => Key.key(text).replaceAll(":", "%003a")
  return {
    job: (id: string) => key("job", id),
    log: (id: string) => key("log", id),
    index: ({ caller, resource, status }: Pick<Job, "caller" | "resource" | "status">) =>
      key("index", part(caller), part(resource), status),
    ready: (resource: string, caller: string) => key("ready", part(resource), part(caller)),
    heads: (resource: string) => key("heads", part(resource)),
    running: key("running"),
    due: (due: Due) => key("due", due),
    counts: key("counts"),
    queued: key("queued"),
    bytes: key("bytes"),
    allBytes: key("allbytes"),
    idempotency: (digest: string) => key("idempotency", digest),
    sequence: key("sequence"),
    nodes: key("nodes"),
    drained: (node: string) => key("drained", part(node)),
    keeper: key("keeper"),
    ping: key("ping"),
    /** The channel of new events: `<id> <number>`, or `<id>` of a job that is no more. */
    channel: key("events"),
  }
}

export type Keys = ReturnType<typeof make>

/** The field of `counts`. */
export const countField = (resource: string, status: Status): string => `${resource}\u001f${status}`

/** What a field of `counts` counts. */
export const parseCountField = (field: string): readonly [resource: string, status: string] => {
  const at = field.lastIndexOf("\u001f")
  return [field.slice(0, at), field.slice(at + 1)]
}
