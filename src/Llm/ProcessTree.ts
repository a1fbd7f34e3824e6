/**
 * One command and every process that it starts: run, read, and ended as a whole.
 *
 * Times are those of the machine, not of Effect's `Clock`: a process does not wait for a clock that is under test.
 */
import { constants } from "node:os"
import type { Readable } from "node:stream"
import { setImmediate } from "node:timers/promises"
import type { Ending } from "../Job.js"
import {
  type Cleared,
  type Exit,
  isRefusal,
  type Launch,
  type Refusal,
  type Sandbox,
  type Sandboxes,
  type Started,
} from "./Containment.js"

/** How long pipes are read after the command has exited: what a process that escaped may still hold open. */
const drainMillis = 500

/** How long to wait for the system to remove what has been killed. */
const killMillis = 5000

export interface Command extends Omit<Launch, "onBegin"> {
  /** Takes a piece of standard output; `false` is to be given no more. */
  readonly onOutput: (chunk: Uint8Array) => boolean
  /** Takes a piece of standard error. */
  readonly onError: (chunk: Uint8Array) => void
}

/** How a command ended: `stopped` because `onOutput` wanted no more. */
export type Ended =
  | { readonly _tag: "Exited"; readonly exitCode: number | null; readonly signal: string | null }
  | { readonly _tag: "Stopped" }
  /** The system refused a process, or its sandbox could not be made: the command did not begin. */
  | { readonly _tag: "Refused"; readonly refusal: Refusal }

export interface ProcessTree {
  /**
   * Starts the command; to be called once. Resolves when nothing of it is left and its output has been read, or as
   * soon as `onOutput` wants no more; rejects only with what `onOutput` throws.
   */
  readonly run: (command: Command) => Promise<Ended>
  /**
   * Ends what still runs: SIGTERM, the grace, SIGKILL. Resolves when nothing is left, or when the system could not
   * remove something within seconds; at once if nothing was started. Never rejects. Later calls wait for the first.
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

/** The parent of the command tells a signal as a shell does: as 128 and its number. */
const exitOf = ([exitCode, signal]: Exit) => ({
  exitCode,
  signal: signal ?? (exitCode !== null && exitCode > 128 ? (signalNames.get(exitCode - 128) ?? null) : null),
})

export interface Options {
  readonly sandboxes: Sandboxes
  /** Between SIGTERM and SIGKILL. */
  readonly graceMillis: number
}

/** A tree that is not started yet: so `end` can be arranged for before there is anything to end. */
export const make = ({ graceMillis, sandboxes }: Options): ProcessTree => {
  let taking: Promise<Sandbox | Refusal> | undefined
  let child: Started | undefined
  /** Whether the command is known to have begun: before that, there is nothing to end gracefully. */
  let begun = false
  const begin = (): void => {
    begun = true
  }
  let stopped = false
  let exit: Exit | undefined
  /** After the exit: what is known of the rest; the pipes are closed then. */
  let gone: Promise<Cleared> | undefined
  let end: ReturnType<ProcessTree["end"]> | undefined

  const clear = async (started: Started, told: Exit): Promise<Cleared> => {
    const cleared = await started.clear(told)
    if (!stopped) await drain(started)
    started.close()
    return cleared
  }

  const drain = async ({ stderr, stdout }: Started): Promise<void> => {
    // Where this process itself was held up, the timer is due before the pipes have been looked at: look once more.
    if (!(await settles(Promise.all([stdout, stderr].map(readToEnd)), drainMillis))) await setImmediate()
  }

  const run = async (command: Command): Promise<Ended> => {
    taking = sandboxes.take()
    const taken = await taking
    if (isRefusal(taken)) return { _tag: "Refused", refusal: taken }
    if (end !== undefined) {
      return { _tag: "Refused", refusal: { code: "ECANCELED", detail: "the attempt was ended before it began" } }
    }
    const started = taken.launch({ ...command, onBegin: begin })
    if (isRefusal(started)) return { _tag: "Refused", refusal: started }
    child = started
    gone = started.exited.then((told) => {
      exit = told
      return clear(started, told)
    })

    const { stderr, stdout } = started
    // Output may be read before the line that says that the command begins.
    stdout.once("data", begin).resume()
    stderr.on("data", command.onError).resume()
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
      const refusal = started.failure()
      return refusal === null ? { _tag: "Exited", ...exitOf(told) } : { _tag: "Refused", refusal }
    }
    return Promise.race([stop, exits()])
  }

  const endNow: ProcessTree["end"] = async () => {
    const sandbox = await taking
    if (sandbox === undefined || isRefusal(sandbox)) return { gone: true, ending: null }
    if (child === undefined) {
      sandbox.discard()
      await settles(sandbox.gone, killMillis)
    }
    return endCommand()
  }

  const endCommand = async () => {
    if (child === undefined || gone === undefined) return { gone: true, ending: null }
    const { close, exited, signal: send } = child
    // Once it has exited, its id may be another's.
    const runs = () => exit === undefined
    const since = performance.now()
    const signals: Array<NodeJS.Signals> = []
    if (runs() && begun && graceMillis > 0) {
      signals.push("SIGTERM")
      send("SIGTERM")
      // One that is stopped cannot end.
      send("SIGCONT")
      await settles(exited, graceMillis)
    }
    if (runs()) {
      signals.push("SIGKILL")
      send("SIGKILL")
    }
    const cleared = (await settles(gone, killMillis)) ? await gone : null
    close()
    const isGone = cleared?.gone === true
    if (signals.length === 0) return { gone: isGone, ending: null }
    const { exitCode, signal } = exitOf(exit ?? [null, null])
    const millis = Math.round(performance.now() - since)
    return {
      gone: isGone,
      ending: { signals, exitCode, signal, millis, ...(isGone ? { knownBy: cleared.knownBy } : {}) },
    }
  }

  return {
    run,
    end: () => {
      end ??= endNow()
      return end
    },
  }
}
