/**
 * The processes that share the jobs: the nodes. Each says in `nodes`, again and again, that it lives; whoever is silent
 * for the time of a lease is taken for dead, and what it had claimed is an orphan.
 *
 * Silence is measured on the clock of who listens, and only while that one hears Redis: after an outage of Redis
 * everybody has a lease's time to speak again. A node of the same machine whose process is gone is dead at once.
 */
import { randomUUID } from "node:crypto"
import { hostname } from "node:os"
import { Clock, Effect, Either, Schedule, type Scope } from "effect"
import type { JobId } from "../../Job.js"
import type { Client } from "../../Redis.js"
import { jobIds } from "../Jobs.js"
import type { KvError } from "../Kv.js"
import { decodeProcess, isAlive, ownProcess, type Process } from "../Process.js"
import { command, evaluate } from "./Connection.js"
import type { Keys } from "./Keys.js"
import * as Scripts from "./Scripts.js"

/** How often a node says in the time of a lease that it lives. */
const beatsPerLease = 10

/** How many of its beats a keeper may miss before another node is. */
const keeperBeats = 4

export interface Nodes {
  /** The name under which this process claims. It has another one after it was taken for dead. */
  readonly own: () => string
  /** Whether this node is the one that does what one of them has to do. For a moment there may be two of them. */
  readonly isKeeper: () => boolean
  /** The jobs that nobody carries: claimed by a node that has gone, or by this one, and `isCarried` says no. */
  readonly abandoned: (
    isCarried: (id: JobId) => boolean,
  ) => Effect.Effect<ReadonlyMap<JobId, "drained" | "died">, KvError>
  /** See `Store.drain`. */
  readonly drain: Effect.Effect<void, KvError>
  readonly isDraining: () => boolean
}

/** How long a node that drained is known for it after its end: longer than a fleet is down as a whole. */
const drainedMillis = 7 * 24 * 60 * 60 * 1000

/** What a node said, and since when it has said nothing else. */
interface Heard {
  readonly what: string
  readonly since: number
}

/** Joins the nodes for as long as the scope lasts. */
export const join = (client: Client, keys: Keys, leaseMillis: number): Effect.Effect<Nodes, KvError, Scope.Scope> =>
  Effect.gen(function* () {
    const process = yield* Effect.sync(ownProcess)
    const beatMillis = leaseMillis / beatsPerLease
    let own = ""
    let beats = 0
    let keeper = false
    let draining = false
    let lastBeat = Number.NEGATIVE_INFINITY
    const heard = new Map<string, Heard>()

    const words = () => JSON.stringify({ ...process, beat: ++beats })
    const enter = Effect.suspend(() => {
      own = `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}`
      return evaluate(client, Scripts.enter, [keys.nodes], [own, words()])
    })

    const beat: Effect.Effect<void, KvError> = Effect.gen(function* () {
      const reply = yield* evaluate(
        client,
        Scripts.beat,
        [keys.nodes, keys.keeper],
        [own, words(), Math.ceil(keeperBeats * beatMillis)],
      )
      keeper = reply === "keeper"
      if (reply === "lost") {
        yield* Effect.logError("this node was taken for dead: its attempts are others' now").pipe(
          Effect.annotateLogs({ node: own }),
        )
        yield* enter
      } else if (keeper) yield* listen
      else heard.clear()
    })

    const listen = Effect.gen(function* () {
      const now = performance.now()
      // Who could not hear does not know who was silent.
      if (now - lastBeat > leaseMillis / 2) heard.clear()
      lastBeat = now
      const said = yield* command(() => client.hgetall(keys.nodes))
      for (const [node, what] of Object.entries(said)) {
        if (node === own) continue
        const before = heard.get(node)
        const since = before?.what === what ? before.since : now
        heard.set(node, { what, since })
        if (now - since < leaseMillis && isSurelyDead(what, process) !== true) continue
        heard.delete(node)
        if ((yield* evaluate(client, Scripts.bury, [keys.nodes], [node, what])) === 1) {
          yield* Effect.logWarning("a node is gone").pipe(Effect.annotateLogs({ node }))
        }
      }
      for (const node of heard.keys()) if (said[node] === undefined) heard.delete(node)
    })

    const drainedAmong = (nodes: ReadonlySet<string>) =>
      Effect.map(
        Effect.filter(nodes, (node) =>
          Effect.map(
            command(() => client.exists(keys.drained(node))),
            (is) => is === 1,
          ),
        ),
        (found) => new Set(found),
      )

    yield* enter
    yield* Effect.addFinalizer(() =>
      // Whoever listens finds out by itself that this one is gone.
      Effect.catchAll(Effect.asVoid(evaluate(client, Scripts.leave, [keys.nodes, keys.keeper], [own])), (error) =>
        Effect.logWarning(`left without a word: ${error.detail}`),
      ),
    )
    yield* beat
    yield* beat.pipe(
      Effect.catchAll((error) => {
        keeper = false
        return Effect.logWarning(`could not say that this node lives: ${error.detail}`)
      }),
      Effect.delay(beatMillis),
      Effect.repeat(Schedule.forever),
      // A lease runs in real time, whatever a test does to the clock of the jobs.
      Effect.withClock(Clock.make()),
      Effect.annotateLogs({ module: "Store" }),
      Effect.forkScoped,
    )

    return {
      own: () => own,
      isKeeper: () => keeper,
      abandoned: (isCarried) =>
        Effect.gen(function* () {
          const claimed = Object.entries(yield* command(() => client.hgetall(keys.running)))
          if (claimed.length === 0) return new Map()
          const living = keeper ? new Set(yield* command(() => client.hkeys(keys.nodes))) : null
          const abandoned = claimed.flatMap(([text, node]) => {
            const isAbandoned = node === own ? true : living !== null && !living.has(node)
            const ids = isAbandoned ? jobIds([text]).filter((id) => node !== own || !isCarried(id)) : []
            return ids.map((id) => ({ id, node }))
          })
          const drained = yield* drainedAmong(new Set(abandoned.map(({ node }) => node)))
          return new Map(abandoned.map(({ id, node }) => [id, drained.has(node) ? "drained" : "died"] as const))
        }),
      drain: Effect.suspend(() => {
        draining = true
        return Effect.asVoid(evaluate(client, Scripts.drain, [keys.nodes, keys.drained(own)], [drainedMillis]))
      }),
      isDraining: () => draining,
    }
  })

/** Whether the process of a node is seen to be gone; `null` where that cannot be seen from here. */
const isSurelyDead = (what: string, own: Process): boolean | null => {
  const process = Either.getOrNull(decodeProcess(what))
  // Another boot is another machine, or this one before: both may be.
  if (process === null || process.bootId !== own.bootId) return null
  const alive = isAlive(process, own)
  return alive === null ? null : !alive
}
