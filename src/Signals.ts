/** What the signals that end the service mean: each further one is less patient than the one before. */

/** Milliseconds. A terminal tells npm and the service, and npm tells the service too: what comes together is one. */
const togetherMillis = 1000

export type Signal = "SIGINT" | "SIGTERM"

/** What each of them asks for; `now` again and again. */
export type Step = "drain" | "hurry" | "now"

const steps: ReadonlyArray<Step> = ["drain", "hurry", "now"]

/** Which step a signal is, whose time is of a monotonic clock; `null`: it is one with the signal before. */
export const makeSteps = (): ((now: number) => Step | null) => {
  let count = 0
  let last = Number.NEGATIVE_INFINITY
  return (now) => {
    if (now - last < togetherMillis) return null
    last = now
    return steps[count++] ?? "now"
  }
}

/** The exit code by which a shell knows that a signal has ended a program. */
export const exitCodes: { readonly [signal in Signal]: number } = { SIGINT: 130, SIGTERM: 143 }

/** Listens until the process ends: without a listener a signal would end it in the middle of its drain. */
export const listen = (onStep: (step: Step, signal: Signal) => void): void => {
  const stepOf = makeSteps()
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      const step = stepOf(performance.now())
      if (step !== null) onStep(step, signal)
    })
  }
}
