/**
 * The ceiling of each resource: a semaphore, resizable while it is in use.
 *
 * `Effect.makeSemaphore` wakes every waiter at each release, so its cost grows with the number of fibers that wait
 * (249 ms a release at 10,000 of them). Here almost none ever wait: the dispatcher forks only as many jobs as there
 * are permits, and leaves the rest in the store, in order. The semaphore is what makes the ceiling hold all the same,
 * whoever forks.
 */
import { type Clock, Context, Effect, Layer } from "effect"
import { deliveries } from "../Job.js"
import { OffloadConfig } from "../OffloadConfig.js"
import { decide, none, type Refusal, type Refusals } from "./Corroboration.js"

/** What a resource is doing now. */
export interface Usage {
  readonly permits: number
  /** How many permits are taken. */
  readonly running: number
  /** How long a permit is held, in milliseconds: a moving average. `null` before the first one was given back. */
  readonly serviceMillis: number | null
  /** Until when no job is to be begun, in milliseconds since the epoch; `null`, or past, where nothing holds them. */
  readonly heldUntil: number | null
}

/** One unit of a resource's ceiling, as its holder has it. */
export interface Permit {
  /**
   * Ends when of all that was passed on so much is done that, with this holder, no more is begun than there are
   * permits. Nothing is to be begun earlier, and nothing waits for it twice.
   */
  readonly awaitReady: Effect.Effect<void>
  /**
   * Gives the permit back, and then does the rest: what takes nothing of the resource any more, and is to be done
   * before the next holder begins. That one can make itself ready meanwhile.
   */
  readonly passOn: <A, E, R>(rest: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** The permit that an effect runs with; without one there is nobody to wait for, and nobody who waits. */
export class CurrentPermit extends Context.Reference<CurrentPermit>()<"effect-offload/CurrentPermit", Permit>(
  "effect-offload/CurrentPermit",
  { defaultValue: () => ({ awaitReady: Effect.void, passOn: (rest) => rest }) },
) {}

interface Resource {
  permits: number
  running: number
  serviceMillis: number | null
  heldUntil: number | null
  refusals: Refusals
  readonly semaphore: Effect.Semaphore
  /** Held from the begin of the work to the end of what was left to do when the permit was passed on. */
  readonly begun: Effect.Semaphore
}

/** How much the newest observation counts in the moving average. */
const weight = 0.2

export class Permits extends Context.Tag("effect-offload/Permits")<
  Permits,
  {
    /** The names of the resources that have a ceiling. */
    readonly resources: ReadonlyArray<string>
    /**
     * Runs an effect while it holds one permit, its `CurrentPermit`. Fibers that must wait are served in their order.
     * The permit is given back however the effect ends, if it was not passed on before; `onFree` is called when it is.
     * A resource without a ceiling runs nothing: it is a defect.
     */
    readonly withPermit: (
      resource: string,
      onFree?: () => void,
    ) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
    /** Changes the ceiling: at once upwards; downwards as permits are given back. */
    readonly resize: (resource: string, permits: number) => Effect.Effect<void>
    /**
     * Says that no job of the resource is to be begun before a time: its downstream has told so. The later of two times
     * counts; `null` ends it, and forgets the refusals that were met. Whoever has a permit goes on.
     */
    readonly hold: (resource: string, until: number | null) => Effect.Effect<void>
    /**
     * Says that an attempt was refused until a time, and holds the resource where that is enough (`Corroboration.ts`).
     * Answers until when it is held by that; `null`: this refusal holds nothing but its own job.
     */
    readonly refuse: (resource: string, refusal: Refusal) => Effect.Effect<number | null>
    /** Takes over what others, who share the resource, know of it. */
    readonly learn: (
      resource: string,
      known: Pick<Usage, "permits" | "serviceMillis" | "heldUntil">,
    ) => Effect.Effect<void>
    /** `null`: no such resource. */
    readonly usage: (resource: string) => Usage | null
  }
>() {
  /** The resources of the settings, and that of deliveries where there is a secret to sign them with. */
  static readonly layerFromConfig: Layer.Layer<Permits, never, OffloadConfig> = Layer.unwrapEffect(
    Effect.map(OffloadConfig, ({ resources, webhookPermits, webhookSecrets }) =>
      Permits.layer({
        ...Object.fromEntries(resources.map(({ name, permits }) => [name, permits])),
        ...(webhookSecrets.length === 0 ? {} : { [deliveries]: webhookPermits }),
      }),
    ),
  )

  static readonly layer = (ceilings: Readonly<Record<string, number>>): Layer.Layer<Permits> =>
    Layer.sync(Permits, () => {
      const resources = new Map<string, Resource>(
        Object.entries(ceilings).map(([name, permits]) => [
          name,
          {
            permits,
            running: 0,
            serviceMillis: null,
            heldUntil: null,
            refusals: none,
            semaphore: Effect.unsafeMakeSemaphore(permits),
            begun: Effect.unsafeMakeSemaphore(permits),
          },
        ]),
      )

      return {
        resources: [...resources.keys()],
        withPermit:
          (name, onFree = () => {}) =>
          (effect) => {
            const resource = resources.get(name)
            if (resource === undefined) {
              return Effect.dieMessage(`The resource '${name}' has no permits: it is not configured.`)
            }
            return Effect.uninterruptibleMask((restore) =>
              Effect.flatMap(restore(resource.semaphore.take(1)), () =>
                Effect.clockWith((clock) => {
                  const { end, permit } = grant(resource, clock, onFree)
                  return Effect.ensuring(restore(Effect.provideService(effect, CurrentPermit, permit)), end)
                }),
              ),
            )
          },
        resize: (name, permits) =>
          Effect.suspend(() => {
            const resource = resources.get(name)
            if (resource === undefined) return Effect.void
            return resize(resource, permits)
          }),
        hold: (name, until) =>
          Effect.sync(() => {
            const resource = resources.get(name)
            if (resource !== undefined) hold(resource, until)
          }),
        refuse: (name, refusal) =>
          Effect.clockWith((clock) =>
            Effect.sync(() => {
              const resource = resources.get(name)
              if (resource === undefined) return null
              const { holdUntil, refusals } = decide(resource.refusals, refusal, clock.unsafeCurrentTimeMillis())
              resource.refusals = refusals
              if (holdUntil !== null) hold(resource, holdUntil)
              return holdUntil
            }),
          ),
        learn: (name, { heldUntil, permits, serviceMillis }) =>
          Effect.suspend(() => {
            const resource = resources.get(name)
            if (resource === undefined) return Effect.void
            // Somebody has ended the hold by hand.
            if (heldUntil === null && resource.heldUntil !== null) hold(resource, null)
            resource.heldUntil = heldUntil
            resource.serviceMillis = serviceMillis
            return resource.permits === permits ? Effect.void : resize(resource, permits)
          }),
        usage: (name) => {
          const resource = resources.get(name)
          if (resource === undefined) return null
          const { heldUntil, permits, running, serviceMillis } = resource
          return { permits, running, serviceMillis, heldUntil }
        },
      }
    })
}

const hold = (resource: Resource, until: number | null): void => {
  if (until === null) resource.refusals = none
  resource.heldUntil = until === null ? null : Math.max(until, resource.heldUntil ?? 0)
}

const resize = (resource: Resource, permits: number): Effect.Effect<void> => {
  resource.permits = permits
  return Effect.zipRight(resource.semaphore.resize(permits), resource.begun.resize(permits))
}

/** A permit that was just taken from the semaphore, and what is to be done when its holder is no more. */
const grant = (resource: Resource, clock: Clock.Clock, onFree: () => void) => {
  resource.running++
  const since = clock.unsafeCurrentTimeNanos()
  let isHeld = true
  let hasBegun = false

  const giveBack = Effect.suspend(() => {
    if (!isHeld) return Effect.void
    isHeld = false
    resource.running--
    resource.serviceMillis = average(
      resource.serviceMillis,
      Number((clock.unsafeCurrentTimeNanos() - since) / 1_000_000n),
    )
    onFree()
    return resource.semaphore.release(1)
  })
  const permit: Permit = {
    awaitReady: Effect.uninterruptibleMask((restore) =>
      Effect.map(restore(resource.begun.take(1)), () => {
        hasBegun = true
      }),
    ),
    passOn: (rest) => Effect.zipRight(giveBack, rest),
  }
  const end = Effect.zipRight(
    Effect.suspend(() => (hasBegun ? resource.begun.release(1) : Effect.void)),
    giveBack,
  )
  return { end, permit }
}

const average = (before: number | null, observed: number): number =>
  before === null ? observed : before + weight * (observed - before)
