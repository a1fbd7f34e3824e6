/** One run of the simulation: a store, what goes wrong with it, and what those who call it know. */
import { Effect } from "effect"
import type { NewJob } from "../../src/Job/Transition.js"
import type { JobId } from "../../src/Job.js"
import type { Store } from "../../src/Store.js"
import * as Checked from "./Checked.js"
import * as FaultyStore from "./FaultyStore.js"
import type { Held } from "./Model.js"
import type { VirtualClock } from "./VirtualClock.js"

/** Who carries an attempt, or believes so. */
export interface Carrier {
  readonly id: JobId
  readonly attempt: number
  /** All that its work has put out. */
  emitted: string
  /** How much of that the store has confirmed. */
  confirmed: number
}

export interface World {
  readonly clock: VirtualClock
  /** The store as callers have it: each answer is checked, and some are lost. */
  readonly store: Store["Type"]
  readonly jobs: () => ReadonlyArray<Held>
  readonly submissions: Array<NewJob>
  /** What this process carries, by job. */
  readonly carriers: Map<JobId, Carrier>
  /** Who lost an attempt without knowing it, and may go on to write. */
  readonly stale: Array<Carrier>
  /** What happens to the next calls; after those all is well. */
  readonly expect: (faults: ReadonlyArray<FaultyStore.Fault>) => void
  /** The process dies, and another one opens the store. */
  readonly crash: Effect.Effect<void>
  readonly verify: Checked.Checked["verify"]
  /** A name that no claim had before. */
  readonly newName: () => string
}

/** `open` opens the same data at each call, without what an earlier one remembered. */
export const make = (open: Effect.Effect<Store["Type"]>, clock: VirtualClock): Effect.Effect<World> =>
  Effect.gen(function* () {
    let real = yield* open
    let faults: Array<FaultyStore.Fault> = []
    let names = 0
    const checked = Checked.make(() => real)
    const carriers = new Map<JobId, Carrier>()
    const stale: Array<Carrier> = []
    return {
      clock,
      store: FaultyStore.make(checked.store, { next: () => faults.shift() ?? "none", pause: clock.move }),
      jobs: checked.jobs,
      verify: checked.verify,
      submissions: [],
      carriers,
      stale,
      expect: (next) => {
        faults = [...next]
      },
      crash: Effect.gen(function* () {
        stale.push(...carriers.values())
        carriers.clear()
        real = yield* open
      }),
      newName: () => `claim ${++names}`,
    }
  })
