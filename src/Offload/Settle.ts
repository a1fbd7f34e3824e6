/**
 * The fork rule. `fork` takes a `Settled` effect and nothing else, and only `settle` makes one: an effect that could
 * drop a failure cannot be started in the background, because it does not compile.
 */
import { Cause, Clock, Context, Effect, Exit, type Fiber, Option } from "effect"
import { Defect, type Disposition, type Evidence, toFailure } from "../Job/JobError.js"
import * as Plausible from "../Job/Plausible.js"
import type { Outcome } from "../Job/Transition.js"
import type { Ending, Failure, Input, Job, JobId, Output, Usage } from "../Job.js"
import type { Store } from "../Store.js"
import { Outcomes } from "./Outcomes.js"
import { CurrentPermit, Permits } from "./Permits.js"
import * as TextWriter from "./TextWriter.js"

/** A queued job, as far as it must be known to settle it. */
export interface Queued {
  readonly id: JobId
  readonly resource: string
  /** What is recorded as having run its attempts. */
  readonly adapter: string
}

/** The attempt that the work is: what `settle` gives to it. */
export class CurrentAttempt extends Context.Tag("effect-offload/CurrentAttempt")<
  CurrentAttempt,
  {
    readonly job: Job
    readonly input: Input
    /** Adds text to the job's output, which is stored and streamed while the work runs. Never blocks, never fails. */
    readonly emit: (text: string) => void
    /** Says what the attempt has used so far: it is stored however the attempt ends. */
    readonly used: (usage: Usage) => void
    /** Says how this service had to end the attempt's processes, once they are gone. */
    readonly ended: (ending: Ending) => void
  }
>() {}

/** What the errors of work must have: a tag that an auditor can name. */
export interface Tagged {
  readonly _tag: string
}

/** What an error means for its job: the row of a disposition table, and what happened this time. */
export interface Handled extends Pick<Disposition, "level"> {
  readonly failure: Failure
  /** The work could not begin, through no fault of the job: the attempt does not count towards `maxAttempts`. */
  readonly refused?: boolean
  /**
   * For so many milliseconds no job of the resource can be done: none is begun. At most 24 h count, and nothing that is
   * not finite or negative.
   */
  readonly holdMillis?: number | undefined
  /**
   * What `holdMillis` rests on. Words hold only this job, until a job of another caller (or another job, where the
   * service has no keys) brings the same. Default: `structured`, which holds the resource.
   */
  readonly evidence?: Evidence
}

/** A handler for each tag of `E`: leaving one out, or adding an error elsewhere, fails to compile here. */
export type Handlers<E extends Tagged> = {
  readonly [Tag in E["_tag"]]: (error: Extract<E, { readonly _tag: Tag }>) => Handled
}

type HandlersByTag<E> = Readonly<Record<string, ((error: E) => Handled) | undefined>>

declare const SettledTypeId: unique symbol

/**
 * An effect whose every outcome is logged and stored: it cannot fail. Made by `settle` alone.
 * The symbol is not exported, so that nothing else has this type; `fork` checks at run time too.
 */
export interface Settled<out R = never> extends Effect.Effect<void, never, R> {
  readonly [SettledTypeId]: "Settled"
}

/** What stands in the compiler's message when an effect is forked that was not settled. */
type Unsettled<T> = [T] extends [Settled<infer _R>]
  ? T
  : T extends Effect.Effect<infer _A, infer E, infer _R>
    ? [E] extends [never]
      ? "fork takes what `settle` made: this effect hides its failures instead of storing them"
      : `fork takes what \`settle\` made: nothing handles ${E extends Tagged ? E["_tag"] : "an error without a tag"}`
    : never

type Context_<T> = T extends Effect.Effect<infer _A, infer _E, infer R> ? R : never

/** What `settle` made, and for which resource: the run-time side of the type, which no cast can forge. */
const settledResources = new WeakMap<object, string>()

/**
 * Turns every outcome of the work into a log line and a stored record.
 *
 * When the settled effect runs it claims the job's next attempt (a job that is no longer queued is left alone), runs
 * the work with a `CurrentAttempt`, and stores the outcome: success, each error by its handler, a defect as `Defect`,
 * an interruption as `cancelled` where it was asked for, else as `interrupted`, which puts the job back in the queue.
 * A store that fails meanwhile is tried again until it takes the outcome (see `Outcomes`). The permit is passed on
 * while the outcome is being stored.
 */
export function settle<E extends Tagged, R>(
  job: Queued,
  work: Effect.Effect<Output, E, R>,
  handlers: Handlers<E>,
): Settled<Exclude<R, CurrentAttempt> | Outcomes | Permits | Store>
// `Handlers` says that each handler takes just the error of its tag; the compiler cannot follow that into a look-up.
export function settle<E extends Tagged, R>(
  job: Queued,
  work: Effect.Effect<Output, E, R>,
  handlers: HandlersByTag<E>,
): Settled<Exclude<R, CurrentAttempt> | Outcomes | Permits | Store> {
  const run = Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const outcomes = yield* Outcomes
      const claimed = yield* outcomes.claim(job, restore)
      if (claimed === null) return
      const { attempt } = claimed.job
      yield* Effect.gen(function* () {
        const writer = yield* TextWriter.make(job.id, attempt)
        const traces: { usage?: Usage; ending?: Ending } = {}
        const permit = yield* CurrentPermit
        const exit = yield* Effect.zipRight(permit.awaitReady, work).pipe(
          Effect.provideService(CurrentAttempt, {
            ...claimed,
            emit: writer.emit,
            used: (usage) => {
              traces.usage = Plausible.usage(usage)
            },
            ended: (ending) => {
              traces.ending = ending
            },
          }),
          restore,
          Effect.exit,
        )
        const { at, text } = yield* writer.close
        const { level, outcome } = yield* toOutcome(exit, handlers, claimed.job)
        // Nothing of the work is left: the next job can be claimed in the same write.
        yield* permit.passOn(
          outcomes.record({ id: job.id, attempt, outcome: { ...traces, ...outcome }, at, text, level }),
        )
      }).pipe(Effect.scoped, Effect.annotateLogs({ attempt }))
    }).pipe(Effect.annotateLogs({ module: "Offload", fiber: "bg-worker", jobId: job.id, resource: job.resource })),
  )
  return mark(job.resource, run)
}

/**
 * Starts a settled effect as a daemon fiber, behind a permit of its job's resource. Interrupting the fiber gives the
 * permit back: before the attempt began, the job stays queued; after, its outcome is stored first. `onFree` is called
 * when the permit is given back.
 *
 * Anything but what `settle` made fails to compile; a cast that gets past the compiler is a defect.
 */
export const fork = <T extends Effect.Effect<unknown, unknown, unknown>>(
  settled: T & Unsettled<T>,
  onFree?: () => void,
): Effect.Effect<Fiber.RuntimeFiber<void>, never, Context_<T> | Permits> =>
  Effect.gen(function* () {
    const effect: unknown = settled
    if (!isSettled<Context_<T>>(effect)) {
      return yield* Effect.dieMessage("fork was given an effect that `settle` did not make; nothing was started")
    }
    const { withPermit } = yield* Permits
    // The fiber must not inherit the uninterruptible region of a submission that forks it.
    return yield* Effect.forkDaemon(Effect.interruptible(withPermit(resourceOf(effect), onFree)(effect)))
  })

const mark = <R>(resource: string, effect: Effect.Effect<void, never, R>): Settled<R> => {
  settledResources.set(effect, resource)
  if (isSettled<R>(effect)) return effect
  throw new Error("unreachable: the effect was marked in the line before")
}

const isSettled = <R>(effect: unknown): effect is Settled<R> =>
  typeof effect === "object" && effect !== null && settledResources.has(effect)

const resourceOf = (settled: Settled<unknown>): string => settledResources.get(settled) ?? ""

/** What an exit means. An interruption is recorded as such only where nothing else went wrong beside it. */
const toOutcome = <E extends Tagged>(
  exit: Exit.Exit<Output, E>,
  handlers: HandlersByTag<E>,
  job: Job,
): Effect.Effect<{ readonly outcome: Outcome; readonly level: Disposition["level"] }, never, Outcomes | Permits> =>
  Effect.gen(function* () {
    if (Exit.isSuccess(exit)) return { outcome: { _tag: "Succeeded", output: plausible(exit.value) }, level: "Info" }
    const outcomes = yield* Outcomes
    if (Cause.isInterruptedOnly(exit.cause)) {
      return { outcome: { _tag: "Interrupted", retryAt: yield* outcomes.resumeAt(job) }, level: "Info" }
    }
    const { evidence = "structured", failure, holdMillis, level, refused = false } = handle(exit.cause, handlers)
    const retryAt = yield* outcomes.retryAt(job, failure)
    const millis = Plausible.wait(holdMillis)
    if (millis !== undefined) yield* refuse(job, evidence, millis)
    return { outcome: { _tag: refused ? "Refused" : "Failed", failure, retryAt }, level }
  })

/** Before the permit is given back, or the next job would run into the same refusal. */
const refuse = (job: Job, evidence: Evidence, millis: number): Effect.Effect<void, never, Permits> =>
  Effect.gen(function* () {
    const permits = yield* Permits
    const until = (yield* Clock.currentTimeMillis) + millis
    const heldUntil = yield* permits.refuse(job.resource, { evidence, until, job })
    if (heldUntil === null) {
      yield* Effect.logInfo("resource not held: only the words of one job say that it is used up").pipe(
        Effect.annotateLogs({ until: Plausible.toIso(until) }),
      )
    } else {
      yield* Effect.logWarning("resource held").pipe(
        Effect.annotateLogs({ until: Plausible.toIso(heldUntil), evidence }),
      )
    }
  })

const plausible = (output: Output): Output =>
  output.usage === undefined ? output : { ...output, usage: Plausible.usage(output.usage) }

const handle = <E extends Tagged>(cause: Cause.Cause<E>, handlers: HandlersByTag<E>): Handled => {
  const error = Option.getOrNull(Cause.failureOption(cause))
  const handler = error === null ? undefined : handlers[error._tag]
  if (error === null || handler === undefined) return handleDefect(cause)
  try {
    return handler(error)
  } catch (thrown) {
    return handleDefect(Cause.die(thrown))
  }
}

const handleDefect = (cause: Cause.Cause<unknown>): Handled => {
  const defect = Cause.squash(cause)
  const name = defect instanceof Error ? defect.name : typeof defect
  return { level: "Error", failure: toFailure(new Defect({ name, cause: Cause.pretty(cause) })) }
}
