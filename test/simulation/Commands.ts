/** What happens in a simulation: each command does what a part of the service does, with that part's habits. */
import { deepStrictEqual } from "node:assert/strict"
import { Clock, Effect } from "effect"
import * as fc from "fast-check"
import type { Outcome } from "../../src/Job/Transition.js"
import { type JobId, makeId } from "../../src/Job.js"
import { failure, submission, succeeded } from "../Store/submission.js"
import { callers, resources } from "./Checked.js"
import { type Fault, faults } from "./FaultyStore.js"
import { day, type Held, isOver, isReady } from "./Model.js"
import type { Carrier, World } from "./World.js"

interface Faults {
  /** What happens to its calls, in order. */
  readonly faults: ReadonlyArray<Fault>
  /** Whether the process dies where a call fails, instead of making it again. */
  readonly dies: boolean
}

export type Command =
  | (Faults & {
      readonly do: "create"
      readonly caller: (typeof callers)[number]
      readonly resource: (typeof resources)[number]
      readonly deadlineMillis: number | null
      readonly maxAttempts: number
      readonly key: string | null
      readonly fingerprint: string
      readonly webhook: boolean
    })
  | (Faults & { readonly do: "cancel" | "remove" | "submitAgain" | "outputOf"; readonly job: number })
  | (Faults & { readonly do: "claim"; readonly job: number; readonly alone: boolean })
  | (Faults & { readonly do: "output"; readonly job: number; readonly text: string })
  | (Faults & { readonly do: "finish" | "lose"; readonly job: number; readonly outcome: Outcome })
  | (Faults & { readonly do: "writeLate"; readonly job: number; readonly text: string; readonly settles: boolean })
  | (Faults & { readonly do: "advance"; readonly retentionMillis: number; readonly limit: number })
  | { readonly do: "clock"; readonly millis: number }
  | (Faults & { readonly do: "shorten" })
  | {
      readonly do: "restart"
      readonly drains: boolean
      readonly rescues: boolean
      readonly faults: ReadonlyArray<Fault>
    }

const faulty = {
  faults: fc.oneof(
    { weight: 2, arbitrary: fc.constant<ReadonlyArray<Fault>>([]) },
    { weight: 1, arbitrary: fc.array(fc.constantFrom(...faults), { maxLength: 3 }) },
  ),
  dies: fc.nat(7).map((n) => n === 7),
}
const job = fc.nat(11)
const text = fc.constantFrom("a", "bc", "def", "🐝", "")
const retryAt = fc.nat(4000)
const outcome: fc.Arbitrary<Outcome> = fc.oneof(
  fc.constant<Outcome>(succeeded),
  fc.option(retryAt, { nil: undefined }).map((retryAt): Outcome => ({ _tag: "Interrupted", retryAt })),
  retryAt.map((retryAt): Outcome => ({ _tag: "Orphaned", retryAt })),
  fc
    .record({ retryable: fc.boolean(), retryAt })
    .map(({ retryAt, retryable }): Outcome => ({ _tag: "Failed", failure: { ...failure, retryable }, retryAt })),
  retryAt.map((retryAt): Outcome => ({ _tag: "Refused", failure, retryAt })),
)
const only = <const A>(value: A) => fc.constant(value)

export const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: only("create"),
      caller: fc.constantFrom(...callers),
      resource: fc.constantFrom(...resources),
      deadlineMillis: fc.option(fc.nat(5000), { freq: 3 }),
      maxAttempts: fc.integer({ min: 1, max: 3 }),
      key: fc.option(fc.constantFrom("k", "l"), { freq: 1 }),
      fingerprint: fc.constantFrom("f", "f", "f", "g"),
      webhook: fc.boolean(),
      ...faulty,
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: only("claim"), job, alone: fc.boolean(), ...faulty }) },
  { weight: 6, arbitrary: fc.record({ do: only("output"), job, text, ...faulty }) },
  { weight: 5, arbitrary: fc.record({ do: only("finish"), job, outcome, ...faulty }) },
  { weight: 3, arbitrary: fc.record({ do: only("writeLate"), job, text, settles: fc.boolean(), ...faulty }) },
  { weight: 3, arbitrary: fc.record({ do: only("lose"), job, outcome, ...faulty }) },
  { weight: 2, arbitrary: fc.record({ do: only("cancel"), job, ...faulty }) },
  fc.record({ do: fc.constantFrom("remove" as const, "submitAgain" as const), job, ...faulty }),
  {
    weight: 2,
    arbitrary: fc.record({
      do: only("advance"),
      retentionMillis: fc.constantFrom(day, day, 2000),
      limit: fc.constantFrom(1000, 1000, 1),
      ...faulty,
    }),
  },
  fc.record({
    do: only("clock"),
    millis: fc.oneof(fc.integer({ min: -3000, max: 5000 }), fc.constantFrom(day, day - 1)),
  }),
  fc.record({ do: only("shorten"), ...faulty }),
  fc.record({ do: only("restart"), drains: fc.boolean(), rescues: fc.boolean(), faults: faulty.faults }),
)

const limits = { maxQueued: 6, maxQueuedPerCaller: 5 }

/** One of these, where there is any; of those that fit where some do, else of the rest. */
const pick = (jobs: ReadonlyArray<Held>, n: number, fits: (job: Held) => boolean): JobId | null => {
  const fitting = jobs.filter(fits)
  const among = fitting.length > 0 ? fitting : jobs
  return among[n % among.length]?.submission.id ?? null
}

const carrierOf = ({ carriers }: World, n: number): Carrier | null => [...carriers.values()][n % carriers.size] ?? null

type AnyError = { readonly _tag: string }

/** Makes a call until it is answered; a process that dies does not. Each answer has been checked, whatever it is. */
const answer = <A, E extends AnyError>(
  world: World,
  dies: boolean,
  call: Effect.Effect<A, E>,
): Effect.Effect<A | null> => {
  const isUnclear = (error: E) => error._tag === "StoreError"
  return (
    dies
      ? Effect.tapError(call, (error) => (isUnclear(error) ? world.crash : Effect.void))
      : Effect.retry(call, { while: isUnclear })
  ).pipe(Effect.catchAll(() => Effect.succeed(null)))
}

const rest = ({ confirmed, emitted }: Carrier) => ({ at: confirmed, text: emitted.slice(confirmed) })

/** What work has put out is what is stored of it, nothing lost or doubled. */
const compare = (world: World, { attempt, emitted, id }: Carrier): void => {
  const job = world.jobs().find(({ submission }) => submission.id === id)
  if (job === undefined || job.seen.attempt !== attempt) return
  deepStrictEqual(job.output, emitted)
}

export const run = (world: World, command: Command): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { carriers, jobs, stale, store, submissions } = world
    if (command.do === "clock") return yield* world.clock.move(command.millis)
    world.expect(command.faults)
    switch (command.do) {
      case "create": {
        const { caller, deadlineMillis, dies, fingerprint, key, maxAttempts, resource, webhook } = command
        const fields = submission({
          id: makeId(0),
          caller,
          resource,
          deadlineMillis,
          maxAttempts,
          webhook: webhook
            ? { url: "https://example.com/", delivery: makeId(0), maxAttempts: 2, timeoutMillis: 10 }
            : null,
          idempotency: key === null ? null : { key, fingerprint },
        })
        submissions.push(fields)
        return void (yield* answer(world, dies, store.create(fields, limits)))
      }
      case "submitAgain": {
        const fields = submissions[command.job % submissions.length]
        if (fields === undefined) return
        // A caller that tries again does not know the id of before, but its key.
        const id = fields.idempotency === null || command.job % 2 === 0 ? fields.id : makeId(0)
        return void (yield* answer(world, command.dies, store.create({ ...fields, id, webhook: null }, limits)))
      }
      case "claim": {
        const id = pick(jobs(), command.job, isReady)
        if (id === null) return
        const how = { name: world.newName(), alone: command.alone }
        const claimed = yield* answer(world, command.dies, store.claim(id, "demo", how))
        if (claimed === null) return
        const before = carriers.get(id)
        if (before !== undefined) stale.push(before)
        carriers.set(id, { id, attempt: claimed.job.attempt, emitted: "", confirmed: 0 })
        return
      }
      case "output": {
        const carrier = carrierOf(world, command.job)
        if (carrier === null) return
        carrier.emitted += command.text
        const { length } = carrier.emitted
        // As the writer of an attempt: what was not stored is written with the text after it.
        const written = yield* Effect.either(store.append(carrier.id, carrier.attempt, rest(carrier)))
        if (written._tag === "Right") carrier.confirmed = length
        else if (written.left._tag !== "StoreError") carriers.delete(carrier.id)
        else if (command.dies) yield* world.crash
        return
      }
      case "finish": {
        const carrier = carrierOf(world, command.job)
        if (carrier === null) return
        const { attempt, id } = carrier
        yield* answer(world, command.dies, store.settle(id, attempt, command.outcome, rest(carrier)))
        if (carriers.delete(id)) compare(world, carrier)
        return
      }
      case "lose": {
        const carrier = carrierOf(world, command.job)
        if (carrier === null) return
        const { attempt, id } = carrier
        yield* answer(world, command.dies, store.settle(id, attempt, command.outcome))
        if (carriers.delete(id)) stale.push(carrier)
        return
      }
      case "writeLate": {
        const live = (carrier: Carrier) => jobs().find(({ submission }) => submission.id === carrier.id)?.seen
        // One that nothing has replaced yet is the live one, and writes its own.
        const replaced = stale.filter((carrier) => {
          const seen = live(carrier)
          return seen?.status !== "running" || seen.attempt !== carrier.attempt
        })
        const beside = replaced.filter((carrier) => live(carrier)?.status === "running")
        const among = beside.length > 0 ? beside : replaced
        const carrier = among[command.job % among.length]
        if (carrier === undefined) return
        const { attempt, confirmed, id } = carrier
        const { dies, settles, text } = command
        const piece = { at: confirmed, text }
        return void (yield* answer(
          world,
          dies,
          settles ? store.settle(id, attempt, succeeded, piece) : store.append(id, attempt, piece),
        ))
      }
      case "cancel": {
        const id = pick(jobs(), command.job, (job) => !isOver(job) || command.job > 8)
        return id === null ? undefined : void (yield* answer(world, command.dies, store.cancel(id)))
      }
      case "remove": {
        const id = pick(jobs(), command.job, (job) => isOver(job) || command.job > 8)
        return id === null ? undefined : void (yield* answer(world, command.dies, store.remove(id)))
      }
      case "advance":
        return void (yield* answer(world, command.dies, store.advance(command)))
      case "shorten":
        return void (yield* answer(world, command.dies, store.shorten({})))
      case "restart": {
        if (command.drains) {
          yield* answer(world, false, store.drain)
          const id = pick(jobs(), 0, isReady)
          // A claim that comes late begins nothing.
          if (id !== null) yield* answer(world, false, store.claim(id, "demo", { name: world.newName(), alone: true }))
        }
        yield* world.crash
        if (!command.rescues) return
        const orphans =
          (yield* answer(
            world,
            false,
            store.orphans(() => false),
          )) ?? []
        for (const {
          drained,
          job: { attempt, id },
        } of orphans) {
          const retryAt = (yield* Clock.currentTimeMillis) + 500
          yield* answer(
            world,
            false,
            store.settle(id, attempt, { _tag: drained ? "Interrupted" : "Orphaned", retryAt }),
          )
        }
      }
    }
  })
