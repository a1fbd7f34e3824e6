/**
 * One command and every process that it starts: run, read, and ended as a whole.
 *
 * Times are those of the machine, not of Effect's `Clock`: a process does not wait for a clock that is under test.
 */
import { constants } from "node:os"
import type { Readable } from "node:stream"
import { setImmediate } from "node:timers/promises"
import type { Ending } from "../Job.js"
import type { Containment, Exit, Launch, Started } from "./Containment.js"

/** How long pipes are read after the command has exited: what a process that escaped may still hold open. */
const drainMillis = 500

/** How long to wait for the system to remove what has been killed. */
const killMillis = 5000

export interface Command extends Omit<Launch, "onBegin"> {
  /** Takes a piece of standard output; `false` is to be given no more. */
  readonly onOutput: (chunk: Uint8Array) => boolean
}

/** How a command ended: `stopped` because `onOutput` wanted no more. */
export type Ended =
  | { readonly _tag: "Exited"; readonly exitCode: number | null; readonly signal: string | null }
  | { readonly _tag: "Stopped" }
  /** The system refused a process, or its containment could not be set up. */
  | { readonly _tag: "Refused"; readonly code: string }

export interface ProcessTree {
  /**
   * Starts the command; to be called once. Resolves when nothing of it is left and its output has been read, or as
   * soon as `onOutput` wants no more; rejects only with what `onOutput` throws.
   */
  readonly run: (command: Command) => Promise<Ended>
  /**
   * Ends what still runs: SIGTERM, the grace, SIGKILL. Resolves when nothing is left, or when the system could not
   * remove something within seconds; at once if nothing was started. Never rejects.
   */
  readonly end: () => Promise<{
    /** Whether nothing is left. */
    readonly gone: boolean
    /** `null`: the command had ended by itself. */
    readonly ending: Ending | null
  }>
}

/** Resolves to whether `promise` resolves in time. */
const settles = (promise: Promise<unknown>, millis: number): Promise<boolean> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, millis, false)
    void promise.then(() => {
      clearTimeout(timer)
      resolve(true)
    })
  })

const readToEnd = (pipe: Readable): Promise<void> =>
  new Promise((resolve) => {
    if (pipe.readableEnded || pipe.destroyed) resolve()
    else pipe.once("end", resolve).once("close", resolve)
  })

const signalNames: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.signals).map(([name, number]) => [number, name]),
)

/** A shell, and so the parent of the command, tells a signal as 128 and its number. */
const exitOf = ([exitCode, signal]: Exit) => ({
  exitCode,
  signal: signal ?? (exitCode !== null && exitCode > 128 ? (signalNames.get(exitCode - 128) ?? null) : null),
})

export interface Options {
  readonly containment: Containment
  /** Between SIGTERM and SIGKILL. */
  readonly graceMillis: number
  /** Kills what has left the group but still carries the attempt's cookie; resolves to whether some are left. */
  readonly killStrays: () => Promise<boolean>
}

/** A tree that is not started yet: so `end` can be arranged for before there is anything to end. */
export const make = ({ containment, graceMillis, killStrays }: Options): ProcessTree => {
  let child: Started | undefined
  /** Whether the command is known to have begun: before that, there is nothing to end gracefully. */
  let begun = false
  const begin = (): void => {
    begun = true
  }
  let stopped = false
  let ended = false
  let exit: Exit | undefined
  /** After the exit: that nothing is left, and that the pipes are closed. */
  let gone: Promise<boolean> = Promise.resolve(true)

  const clear = async (started: Started, [, signal]: Exit): Promise<boolean> => {
    // A namespace that ended by itself is empty. Whatever was killed from outside may leave something for a moment.
    const empty = containment.mode === "namespace" && signal === null
    if (!empty) started.signal("SIGKILL")
    // The pipes of a namespace that ended before the command began had no other end, and have none to come to.
    const unread = stopped || (containment.mode === "namespace" && !begun)
    const [strays] = await Promise.all([empty ? false : killStrays(), unread ? undefined : drain(started)])
    started.close()
    return !strays
  }

  const drain = async ({ pipes }: Started): Promise<void> => {
    // Where this process itself was held up, the timer is due before the pipes have been looked at: look once more.
    if (!(await settles(Promise.all(pipes.map(readToEnd)), drainMillis))) await setImmediate()
  }

  const run = async (command: Command): Promise<Ended> => {
    const place = await containment.prepare(command.onError)
    if (typeof place === "string") return { _tag: "Refused", code: place }
    if (ended) {
      place.release()
      return { _tag: "Refused", code: "ECANCELED" }
    }
    const started = place.launch({ ...command, onBegin: begin })
    if (started instanceof Promise) return { _tag: "Refused", code: await started }
    child = started
    exit = undefined
    gone = started.exited.then((told) => {
      exit = told
      return clear(started, told)
    })

    const { stderr, stdout } = started
    // Output may be read before what says that it begins.
    stdout.once("data", begin)
    stderr.on("data", command.onError)
    const stop = new Promise<Ended>((resolve, reject) => {
      stdout.on("data", (chunk: Uint8Array) => {
        if (stopped) return
        try {
          if (command.onOutput(chunk)) return
          resolve({ _tag: "Stopped" })
        } catch (error) {
          reject(error)
        }
        stopped = true
        // Not read any further, the pipe fills up and holds the command back until it is killed.
        stdout.pause()
      })
    })

    const exits = async (): Promise<Ended> => {
      const told = await started.exited
      await gone
      if (begun) return { _tag: "Exited", ...exitOf(told) }
      // A command that killed its group may have been told to have ended before its namespace had.
      return place.isUsed ? run(command) : { _tag: "Refused", code: "ECONTAIN" }
    }
    return Promise.race([stop, exits()])
  }

  return {
    run,

    end: async () => {
      ended = true
      if (child === undefined) return { gone: true, ending: null }
      // Once it has exited, its id may be another's.
      const runs = () => exit === undefined
      const since = performance.now()
      const signals: Array<NodeJS.Signals> = []
      if (runs() && begun && graceMillis > 0) {
        signals.push("SIGTERM")
        child.signal("SIGTERM")
        // One that is stopped cannot end.
        child.signal("SIGCONT")
        await settles(child.exited, graceMillis)
      }
      if (runs()) {
        signals.push("SIGKILL")
        child.signal("SIGKILL")
      }
      const isGone = (await settles(gone, killMillis)) && (await gone)
      child.close()
      if (signals.length === 0) return { gone: isGone, ending: null }
      const { exitCode, signal } = exitOf(exit ?? [null, null])
      return { gone: isGone, ending: { signals, exitCode, signal, millis: Math.round(performance.now() - since) } }
    },
  }
}
