/**
 * Jobs in Redis: each change is one script, applied only to the record that it was decided on. `Redis/Keys.ts` says
 * what stands there.
 */
import { Effect, Either, Layer, type Scope } from "effect"
import * as Transition from "../Job/Transition.js"
import { isTerminal, type JobId } from "../Job.js"
import * as Redis from "../Redis.js"
import { type Advanced, JobNotTerminal, type JobWithInput, Store, type StoreError } from "../Store.js"
import * as Decision from "./Decision.js"
import { refusedOf } from "./Due.js"
import { jobIds } from "./Jobs.js"
import { type KvError, reading } from "./Kv.js"
import * as Named from "./Named.js"
import * as Record from "./Record.js"
import * as Connection from "./Redis/Connection.js"
import * as Create from "./Redis/Create.js"
import * as Due from "./Redis/Due.js"
import { check } from "./Redis/Health.js"
import * as Jobs from "./Redis/Jobs.js"
import * as Keys from "./Redis/Keys.js"
import * as Listing from "./Redis/Listing.js"
import * as Nodes from "./Redis/Nodes.js"
import { growing, keep, move, plan } from "./Redis/Plan.js"
import * as Queue from "./Redis/Queue.js"
import type { Limits } from "./Tally.js"
import * as Watch from "./Watch.js"

export interface Options {
  /** As `Redis.parse` takes it. */
  readonly url: string
  /** Before every key; has a hash tag, so that all keys are in one slot of a cluster. Default: `{offload}:`. */
  readonly prefix?: string
  /** Whether a Redis may be used that throws keys away when its memory is full. Default: no. */
  readonly allowEviction?: boolean
  /** After how many milliseconds without a sign of it a process is taken for dead. Default: 5000. */
  readonly leaseMillis?: number
}

const maxAhead = 10_000
const defaultLimit = 1000

/** Another node does what is due. */
const nothing: Advanced = { ready: [], expired: [], removed: 0 }

/** Without a message for so long, those who wait look for themselves. */
const watchMillis = 5000

const open = ({ allowEviction = false, leaseMillis = 5000, prefix = "{offload}:", url }: Options) =>
  Effect.gen(function* () {
    const address = yield* Connection.parse(url)
    const client = yield* Connection.open(address, { commandTimeout: Redis.commandMillis })
    const keys = Keys.make(prefix)
    yield* check(client, { allowEviction, keys })
    const nodes = yield* Nodes.join(client, keys, leaseMillis)
    const watch = yield* listen(address, keys)
    return service(Jobs.make(client, keys, nodes), watch, `redis (${address.name})`, allowEviction)
  })

/** Wakes those who wait for events, of this process and of others. */
const listen = (address: Redis.Address, keys: Keys.Keys): Effect.Effect<Watch.Watch, KvError, Scope.Scope> =>
  Effect.gen(function* () {
    const watch = Watch.make()
    const isJobId = (id: string | undefined): id is JobId => jobIds([id ?? ""]).length === 1
    const subscriber = yield* Connection.open(address, { autoResubscribe: false, enableAutoPipelining: false })
    subscriber.on("message", (_: string, message: string) => {
      const [id, events] = message.split(" ")
      if (isJobId(id)) watch.notify(id, events === undefined ? null : Number(events))
    })
    subscriber.on("ready", () => {
      // One that fails is of a connection that has just been lost again: the next one subscribes.
      subscriber.subscribe(keys.channel).catch(() => {})
      // What was said while it was away is not said again.
      watch.notifyAll()
    })
    yield* Connection.command(() => subscriber.subscribe(keys.channel))
    yield* Effect.acquireRelease(
      Effect.sync(() => setInterval(watch.notifyAll, watchMillis).unref()),
      (timer) => Effect.sync(() => clearInterval(timer)),
    )
    return watch
  })

/** The name of an operation, and its time. */
const named =
  (operation: string) =>
  <A, E, R>(self: Effect.Effect<A, E, R>) =>
    Named.named(operation)(Connection.inTime(self))

const service = (jobs: Jobs.Jobs, watch: Watch.Watch, description: string, allowEviction: boolean): Store["Type"] => {
  const { client, keys } = jobs
  const first = allowEviction ? Queue.firstPresent : Queue.first
  // What Redis throws away is not counted off.
  const bounded = (limits: Limits): Limits =>
    allowEviction ? { ...limits, maxBytes: null, maxBytesPerCaller: null } : limits
  return {
    description,

    create: Named.namedCreate(
      (job, limits) => Connection.inTime(Create.create(jobs, job, bounded(limits))),
      (job, limits, now, done) => Create.begin(jobs, job, bounded(limits), now, done),
    ),

    get: (id) => jobs.read(id).pipe(named("get")),

    getWithInput: (id) => jobs.readWithInput(id).pipe(named("getWithInput")),

    list: (query) => Listing.list(jobs, query).pipe(named("list")),

    counts: Listing.counts(client, keys).pipe(named("counts")),

    queued: (resource, limit, turns) =>
      Effect.map(first(client, keys, resource, limit, turns), jobIds).pipe(named("queued")),

    ahead: (id, turns) =>
      Effect.flatMap(jobs.read(id), (job) =>
        Record.isReady(job) ? Queue.ahead(client, keys, job, maxAhead, turns) : Effect.succeed(null),
      ).pipe(named("ahead")),

    running: Effect.flatMap(
      Connection.command(() => client.hkeys(keys.running)),
      (ids) => jobs.readAll(jobIds(ids)),
    ).pipe(named("running")),

    orphans: (isCarried) =>
      Effect.gen(function* () {
        const abandoned = yield* jobs.nodes.abandoned(isCarried)
        const found = yield* jobs.readAll([...abandoned.keys()])
        return found.map((job) => ({ job, drained: abandoned.get(job.id) === "drained" }))
      }).pipe(named("orphans")),

    drain: jobs.nodes.drain.pipe(named("drain")),

    claim: (id, adapter, how) =>
      Effect.flatMap(jobs.readWithInput(id), ({ input }) =>
        jobs.change(id, (job, now): Either.Either<Jobs.Plan<JobWithInput | null>> => {
          const claimed = Decision.claim(job, adapter, now, how, jobs.nodes.isDraining())
          if (claimed === null) return Either.right(keep(null))
          const withInput = { job: claimed, input }
          return Either.right(claimed === job ? keep(withInput) : move(job, claimed, now, withInput))
        }),
      ).pipe(named("claim")),

    append: (id, attempt, piece) =>
      jobs
        .change(id, (job, now) =>
          Either.map(Decision.append(job, attempt, piece), (decision) => growing(plan(job, now)(decision))),
        )
        .pipe(named("append")),

    settle: (id, attempt, outcome, last) =>
      jobs
        .change(id, (job, now) => Either.map(Decision.settle(job, attempt, outcome, last, now), plan(job, now)))
        .pipe(named("settle")),

    cancel: (id) =>
      jobs.change(id, (job, now) => Either.right(plan(job, now)(Decision.cancel(job, now)))).pipe(named("cancel")),

    redeliver: (id) =>
      jobs.change(id, (job, now) => Either.right(plan(job, now)(Decision.redeliver(job)))).pipe(named("redeliver")),

    remove: (id) =>
      jobs.remove(id, (job) => (isTerminal(job.status) ? null : new JobNotTerminal({ id }))).pipe(named("remove")),

    events: (id, after, limit = defaultLimit) =>
      Effect.gen(function* () {
        const entries = yield* Connection.command(() =>
          client.xrange(keys.log(id), `${Math.max(2, after + 1)}-0`, "+", "COUNT", limit),
        )
        // Read after the log: it may have more events than were found, and never less.
        const job = yield* jobs.read(id)
        const events = yield* decode(id, entries)
        return { job, events: after < 1 ? [Record.firstEvent(job), ...events].slice(0, limit) : events }
      }).pipe(named("events")),

    awaitEvent: (id, after) => {
      const look = Effect.map(jobs.find(id), (stored) => stored === null || stored.job.events > after)
      const woken = Effect.async<void>((resume) => Effect.sync(watch.add(id, after, () => resume(Effect.void))))
      // Looks again when it is woken, and once after it has begun to watch: an event may come between the two.
      const wait: Effect.Effect<void, KvError> = Effect.flatMap(look, (is) =>
        is ? Effect.void : Effect.zipRight(Effect.raceFirst(woken, soon(look)), wait),
      )
      return wait.pipe(Named.failing("awaitEvent"))
    },

    output: (id) =>
      Effect.gen(function* () {
        const { outputFrom } = yield* jobs.read(id)
        const entries = yield* Connection.command(() => client.xrange(keys.log(id), `${outputFrom}-0`, "+"))
        const events = yield* decode(id, entries)
        return events.map((event) => (event.type === "output" ? event.text : "")).join("")
      }).pipe(named("output")),

    advance: ({ limit = defaultLimit, retentionMillis }) =>
      Effect.suspend(() =>
        jobs.nodes.isKeeper() ? Due.advance(jobs, { limit, retentionMillis }) : Effect.succeed(nothing),
      ).pipe(named("advance")),

    release: ({ cursor, limit = defaultLimit, resource }) =>
      Due.release(jobs, { cursor, limit, to: refusedOf(resource) }).pipe(named("release")),

    shorten: ({ cursor, limit = defaultLimit }) =>
      Due.release(jobs, { cursor, limit, to: Transition.shorten }).pipe(named("shorten")),

    ping: Effect.asVoid(Connection.command(() => client.set(keys.ping, "1", "PX", 1000))).pipe(named("ping")),
  }
}

/** Ends when it has come about by the time that a watch has begun; else never. */
const soon = (look: Effect.Effect<boolean, KvError>): Effect.Effect<void, KvError> =>
  Effect.flatMap(look, (is) => (is ? Effect.void : Effect.never))

const decode = (id: JobId, entries: ReadonlyArray<[id: string, fields: ReadonlyArray<string>]>) =>
  reading(() => entries.map(([, fields]) => Record.decodeEvent(id, fields[1] ?? "")))

/** Fails to build where the Redis cannot be reached, or cannot be trusted with jobs. */
export const layer = (options: Options): Layer.Layer<Store, StoreError> =>
  Layer.scoped(Store, open(options).pipe(Named.named("open")))
