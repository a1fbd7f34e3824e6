/**
 * Sandboxes that are made before they are needed: while an attempt runs, the sandbox of the next one is prepared.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { isRefusal, type Refusal, type Sandbox, type Sandboxes } from "./Containment.js"

/** The most that wait, whatever the permits: each is a small process, and a new one takes a few milliseconds. */
const maxSpares = 16

/** How long they wait for the next attempt of an idle resource. */
const idleMillis = 60_000

/** The longest that the end of all of them is waited for. */
const closeMillis = 5000

export interface Spares extends Sandboxes {
  /** Ends those that wait; resolves when they are gone, or after seconds if the system does not end them. */
  readonly close: () => Promise<void>
}

/** At most one waits for each attempt that runs; none once no attempt has run for `idle` milliseconds. */
export const make = (start: () => Promise<Sandbox | Refusal>, idle = idleMillis): Spares => {
  const spares: Array<Sandbox> = []
  /** Of those that were discarded, their end; of those that are being made, that they are. */
  const ending = new Set<Promise<void>>()
  let starting = 0
  let running = 0
  let isClosed = false
  let timer: NodeJS.Timeout | undefined

  const discard = (sandbox: Sandbox): void => {
    sandbox.discard()
    const end = sandbox.removed.then(() => {
      ending.delete(end)
    })
    ending.add(end)
  }

  const discardAll = (): void => {
    for (const spare of spares.splice(0)) discard(spare)
  }

  const prepare = (): void => {
    while (!isClosed && spares.length + starting < Math.min(running, maxSpares)) startOne()
  }

  const startOne = (): void => {
    starting++
    const prepared = start().then((made) => {
      starting--
      ending.delete(prepared)
      // A refusal is told to who takes the next one, if it is still true then.
      if (isRefusal(made)) return
      if (isClosed) discard(made)
      else spares.push(made)
      if (running === 0) discardLater()
    })
    ending.add(prepared)
  }

  const discardLater = (): void => {
    clearTimeout(timer)
    timer = setTimeout(discardAll, idle).unref()
  }

  const begin = (sandbox: Sandbox): Sandbox => {
    running++
    clearTimeout(timer)
    void sandbox.gone.then(() => {
      running--
      if (running === 0) discardLater()
    })
    return {
      ...sandbox,
      launch: (command) => {
        const launched = sandbox.launch(command)
        // After the command, which must not wait for it.
        setImmediate(prepare)
        return launched
      },
    }
  }

  const takeSpare = (): Sandbox | undefined => {
    for (let spare = spares.shift(); spare !== undefined; spare = spares.shift()) {
      if (spare.isUsable()) return spare
      discard(spare)
    }
    return undefined
  }

  const endAll = async (): Promise<void> => {
    while (ending.size > 0) await Promise.all(ending)
  }

  return {
    take: async () => {
      if (isClosed) return { code: "ECANCELED", detail: "the service is ending" }
      const sandbox = takeSpare() ?? (await start())
      return isRefusal(sandbox) ? sandbox : begin(sandbox)
    },
    close: async () => {
      isClosed = true
      clearTimeout(timer)
      discardAll()
      // What the system does not remove must not keep the service from its end.
      await Promise.race([endAll(), sleep(closeMillis, undefined, { ref: false })])
    },
  }
}
