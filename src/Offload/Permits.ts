/**
 * The ceiling of each resource: a semaphore, resizable while it is in use.
 *
 * `Effect.makeSemaphore` wakes every waiter at each release, so its cost grows with the number of fibers that wait
 * (249 ms a release at 10,000 of them). Here almost none ever wait: the dispatcher forks only as many jobs as there
 * are permits, and leaves the rest in the store, in order. The semaphore is what makes the ceiling hold all the same,
 * whoever forks.
 */
import { Clock, Context, Effect, Layer } from "effect"
import { deliveries } from "../Job.js"
import { OffloadConfig } from "../OffloadConfig.js"

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

interface Resource {
  permits: number
  running: number
  serviceMillis: number | null
  heldUntil: number | null
  readonly semaphore: Effect.Semaphore
}

/** How much the newest observation counts in the moving average. */
const weight = 0.2

export class Permits extends Context.Tag("effect-offload/Permits")<
  Permits,
  {
    /** The names of the resources that have a ceiling. */
    readonly resources: ReadonlyArray<string>
    /**
     * Runs an effect while it holds one permit. Fibers that must wait are served in their order. The permit is given
     * back however the effect ends. A resource without a ceiling runs nothing: it is a defect.
     */
    readonly withPermit: (resource: string) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
    /** Changes the ceiling: at once upwards; downwards as permits are given back. */
    readonly resize: (resource: string, permits: number) => Effect.Effect<void>
    /**
     * Says that no job of the resource is to be begun before a time: its downstream has told so. The later of two times
     * counts; `null` ends it. Whoever has a permit goes on.
     */
    readonly hold: (resource: string, until: number | null) => Effect.Effect<void>
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
          { permits, running: 0, serviceMillis: null, heldUntil: null, semaphore: Effect.unsafeMakeSemaphore(permits) },
        ]),
      )

      const held = (resource: Resource) =>
        Effect.acquireRelease(
          Effect.tap(Clock.currentTimeMillis, () => Effect.sync(() => resource.running++)),
          (since) =>
            Effect.map(Clock.currentTimeMillis, (now) => {
              resource.running--
              resource.serviceMillis = average(resource.serviceMillis, now - since)
            }),
        )

      return {
        resources: [...resources.keys()],
        withPermit: (name) => (effect) => {
          const resource = resources.get(name)
          return resource === undefined
            ? Effect.dieMessage(`The resource '${name}' has no permits: it is not configured.`)
            : resource.semaphore.withPermits(1)(Effect.scoped(Effect.zipRight(held(resource), effect)))
        },
        resize: (name, permits) =>
          Effect.suspend(() => {
            const resource = resources.get(name)
            if (resource === undefined) return Effect.void
            resource.permits = permits
            return resource.semaphore.resize(permits)
          }),
        hold: (name, until) =>
          Effect.sync(() => {
            const resource = resources.get(name)
            if (resource === undefined) return
            resource.heldUntil = until === null ? null : Math.max(until, resource.heldUntil ?? 0)
          }),
        learn: (name, { heldUntil, permits, serviceMillis }) =>
          Effect.suspend(() => {
            const resource = resources.get(name)
            if (resource === undefined) return Effect.void
            resource.heldUntil = heldUntil
            resource.serviceMillis = serviceMillis
            if (resource.permits === permits) return Effect.void
            resource.permits = permits
            return resource.semaphore.resize(permits)
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

const average = (before: number | null, observed: number): number =>
  before === null ? observed : before + weight * (observed - before)
