/**
 * One bound for many waits at once, at the price of one timer: waits that all last equally long end in the order in
 * which they began.
 */
export interface Timeout {
  readonly millis: number
  /** Calls back when the time is up, unless the returned function is called before. */
  readonly start: (onTimeout: () => void) => () => void
}

interface Wait {
  readonly until: number
  readonly onTimeout: () => void
}

// Not Effect's Clock: this bounds a disk, which does not know of a test's time.
export const make = (millis: number): Timeout => {
  const waits = new Set<Wait>()
  let armed = false
  const arm = () => {
    armed = false
    for (const { until } of waits) {
      armed = true
      setTimeout(fire, Math.max(0, until - performance.now())).unref()
      return
    }
  }
  const fire = () => {
    const now = performance.now()
    for (const wait of waits) {
      if (wait.until > now) break
      waits.delete(wait)
      wait.onTimeout()
    }
    arm()
  }
  return {
    millis,
    start: (onTimeout) => {
      const wait: Wait = { until: performance.now() + millis, onTimeout }
      waits.add(wait)
      if (!armed) arm()
      return () => {
        waits.delete(wait)
      }
    },
  }
}
