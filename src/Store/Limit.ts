/** A bound on how long something takes, with one timer for all that begins in a turn of the event loop. */

interface Turn {
  readonly timer: NodeJS.Timeout
  readonly callbacks: Set<() => void>
}

/** Makes what calls back after so many milliseconds, unless what it returns is called before. */
export const make = (millis: number): ((callback: () => void) => () => void) => {
  let current: Turn | null = null

  const begin = (): Turn => {
    const callbacks = new Set<() => void>()
    // Not Effect's Clock: this bounds a disk, which does not know of a test's time.
    const timer = setTimeout(() => {
      for (const callback of callbacks) callback()
    }, millis).unref()
    setImmediate(() => {
      current = null
    })
    return { timer, callbacks }
  }

  return (callback) => {
    current ??= begin()
    const { callbacks, timer } = current
    callbacks.add(callback)
    return () => {
      // In a turn that goes on, another one may yet come.
      if (callbacks.delete(callback) && callbacks.size === 0 && current?.callbacks !== callbacks) clearTimeout(timer)
    }
  }
}
