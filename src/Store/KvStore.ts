/** The `Store` over a `Kv`: what each operation reads, decides and writes. */
import { Effect, Either } from "effect"
import * as Transition from "../Job/Transition.js"
import { isTerminal, type Job } from "../Job.js"
import { JobNotTerminal, type JobWithInput, type Store, type StoreError } from "../Store.js"
import { answer, type Plan } from "./Commit.js"
import * as Decision from "./Decision.js"
import * as Due from "./Due.js"
import * as Jobs from "./Jobs.js"
import * as Key from "./Key.js"
import { type Entry, type Kv, KvError, type Op, put, reading, remove } from "./Kv.js"
import * as Listing from "./Listing.js"
import { failing, named, namedCreate } from "./Named.js"
import * as Queue from "./Queue.js"
import * as Record from "./Record.js"
import * as Submission from "./Submission.js"

type Service = Store["Type"]

const maxAhead = 10_000
const defaultLimit = 1000
/** How many events of an output are read before others get the event loop. */
const outputSlice = 250

/** A store over a backend, which it reads once. */
export const make = (kv: Kv, description: string): Effect.Effect<Service, StoreError> =>
  Effect.map(Jobs.make(kv), (jobs) => service(jobs, description)).pipe(named("open"))

const service = (jobs: Jobs.Jobs, description: string): Service => ({
  description,

  create: namedCreate(
    (job, limits) => Submission.create(jobs, job, limits),
    (job, limits, now, done) => Submission.begin(jobs, job, limits, now, done),
  ),

  get: (id) => jobs.read(id).pipe(named("get")),

  getWithInput: (id) =>
    Effect.flatMap(jobs.read(id), (job) => reading(() => ({ job, input: jobs.input(id) }))).pipe(named("getWithInput")),

  list: (query) => Listing.list(jobs, query).pipe(named("list")),

  counts: Effect.sync(jobs.tally.counts),

  queued: (resource, limit, turns) =>
    reading(() => Jobs.jobIds(Queue.first(jobs.kv, resource, limit, turns))).pipe(named("queued")),

  ahead: (id, turns) =>
    Effect.flatMap(jobs.read(id), (job) =>
      Record.isReady(job) ? reading(() => Queue.ahead(jobs.kv, job, maxAhead, turns)) : Effect.succeed(null),
    ).pipe(named("ahead")),

  running: running(jobs).pipe(named("running")),

  // The store has one process at a time: what that one does not carry, nobody does.
  orphans: (isCarried) =>
    Effect.map(
      Effect.zip(
        running(jobs),
        reading(() => drained(jobs)),
      ),
      ([found, isDrained]) =>
        found.flatMap((job) => (isCarried(job.id) ? [] : [{ job, drained: isDrained.has(job.id) }])),
    ).pipe(named("orphans")),

  drain: Effect.suspend(() => {
    jobs.claimant.isDraining = true
    return jobs.run(["drain"], () => Either.right({ ...answer(undefined), ops: noteDrain(jobs) }))
  }).pipe(named("drain")),

  claim: (id, adapter, how) =>
    jobs
      .change(id, (job, now): Either.Either<Plan<JobWithInput | null>> => {
        const claimed = Decision.claim(job, adapter, now, how, jobs.claimant.isDraining)
        if (claimed === null) return Either.right(answer(null))
        const withInput = { job: claimed, input: jobs.input(id) }
        const owned = [put("running", id, jobs.claimant.name)]
        return Either.right(claimed === job ? answer(withInput) : jobs.move(job, claimed, now, withInput, owned))
      })
      .pipe(named("claim")),

  append: (id, attempt, piece) =>
    jobs
      .change(id, (job, now) => Either.map(Decision.append(job, attempt, piece), growing(plan(jobs, job, now))))
      .pipe(named("append")),

  settle: (id, attempt, outcome, last) =>
    jobs
      .change(id, (job, now) => Either.map(Decision.settle(job, attempt, outcome, last, now), plan(jobs, job, now)))
      .pipe(named("settle")),

  cancel: (id) =>
    jobs.change(id, (job, now) => Either.right(plan(jobs, job, now)(Decision.cancel(job, now)))).pipe(named("cancel")),

  redeliver: (id) =>
    jobs.change(id, (job, now) => Either.right(plan(jobs, job, now)(Decision.redeliver(job)))).pipe(named("redeliver")),

  remove: (id) =>
    jobs
      .changeAll(id, (job, now) =>
        isTerminal(job.status)
          ? Either.right(jobs.erase(job, now, undefined))
          : Either.left(new JobNotTerminal({ id })),
      )
      .pipe(named("remove")),

  events: (id, after, limit = defaultLimit) =>
    Effect.flatMap(jobs.read(id), (job) =>
      reading(() => ({ job, events: jobs.events(job, after + 1, Math.min(after + limit, job.events) + 1) })),
    ).pipe(named("events")),

  awaitEvent: (id, after) =>
    Effect.async<void, KvError>((resume) => {
      try {
        const job = jobs.find(id)
        // Nothing can come between the look and the watch: both happen in this call.
        if (job !== null && job.events <= after) {
          return Effect.sync(jobs.watch.add(id, after, () => resume(Effect.void)))
        }
        resume(Effect.void)
      } catch (error) {
        resume(error instanceof KvError ? Effect.fail(error) : Effect.die(error))
      }
      return Effect.void
    }).pipe(failing("awaitEvent")),

  output: (id) =>
    Effect.gen(function* () {
      const job = yield* jobs.read(id)
      const texts: Array<string> = []
      for (let from = job.outputFrom; from <= job.events; from += outputSlice) {
        if (from > job.outputFrom) yield* yieldToEventLoop
        const events = yield* reading(() => jobs.events(job, from, Math.min(from + outputSlice, job.events + 1)))
        for (const event of events) if (event.type === "output") texts.push(event.text)
      }
      return texts.join("")
    }).pipe(named("output")),

  advance: ({ limit = defaultLimit, retentionMillis }) =>
    Due.advance(jobs, { limit, retentionMillis }).pipe(named("advance")),

  release: ({ cursor, limit = defaultLimit, resource }) =>
    Due.release(jobs, { cursor, limit, to: Due.refusedOf(resource) }).pipe(named("release")),

  shorten: ({ cursor, limit = defaultLimit }) =>
    Due.release(jobs, { cursor, limit, to: Transition.shorten }).pipe(named("shorten")),

  ping: jobs
    .run(["ping"], (now) =>
      Either.right({ ...answer(undefined), isGrowth: true, ops: [put("meta", "ping", String(now))] }),
    )
    .pipe(named("ping")),
})

const running = (jobs: Jobs.Jobs) =>
  Effect.flatMap(
    reading(() => Array.from(jobs.kv.keys("running", Key.all))),
    jobs.readAll,
  )

/** Who claimed each running job. */
const claimants = ({ kv }: Jobs.Jobs): ReadonlyArray<Entry> => Array.from(kv.entries("running", Key.all))

/** The running jobs whose process said that it drains. */
const drained = (jobs: Jobs.Jobs): ReadonlySet<string> =>
  new Set(
    claimants(jobs).flatMap(({ key, value }) =>
      jobs.kv.get("meta", Key.key("drain", value)) === undefined ? [] : [key],
    ),
  )

/** Says that this process drains, and forgets the earlier ones of which nothing runs any more. */
const noteDrain = (jobs: Jobs.Jobs): ReadonlyArray<Op> => {
  const named = new Set([jobs.claimant.name, ...claimants(jobs).map(({ value }) => value)])
  const old = Array.from(jobs.kv.keys("meta", Key.under("drain")))
  return [
    ...old.filter((key) => !named.has(Key.parts(key)[1] ?? "")).map((key) => remove("meta", key)),
    put("meta", Key.key("drain", jobs.claimant.name), "1"),
  ]
}

/** What writes the record that was decided on, and its new output. */
const plan =
  (jobs: Jobs.Jobs, before: Job, now: number) =>
  <A>({ answer: given, next }: Decision.Decision<A>): Plan<A> => {
    if (next === null) return answer(given)
    const output = next.text === "" ? [] : [Record.writeOutput(before, before.events + 1, now, next.text)]
    return jobs.move(before, next.job, now, given, output)
  }

/** Output is kept elsewhere until there is room for it, and comes with the end of its attempt at the latest. */
const growing =
  <A, B>(plan: (decision: A) => Plan<B>) =>
  (decision: A): Plan<B> => ({ ...plan(decision), isGrowth: true })

/** `Effect.yieldNow` yields to other fibers alone. */
const yieldToEventLoop = Effect.async<void>((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})
