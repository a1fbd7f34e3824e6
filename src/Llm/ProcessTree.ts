/**
 * One command and every process that it starts: run, read, and ended as a whole.
 *
 * Times are those of the machine, not of Effect's `Clock`: a process does not wait for a clock that is under test.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { constants } from "node:os"
import { Readable, type Writable } from "node:stream"
import { setImmediate } from "node:timers/promises"
import type { Ending } from "../Job.js"
import type { Argv, Containment } from "./Containment.js"

/** How long pipes are read after the command has exited: what a process that escaped may still hold open. */
const drainMillis = 500

/** How long to wait for the system to remove what has been killed. */
const killMillis = 5000

export interface Command {
  readonly argv: Argv
  readonly cwd: string
  readonly env: Record<string, string>
  readonly stdin: string
  /** Takes a piece of standard output; `false` is to be given no more. */
  readonly onOutput: (chunk: Uint8Array) => boolean
  readonly onError: (chunk: Uint8Array) => void
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

/** A command that has been started, with its pipes. */
interface Started {
  /** The first process of the group. */
  readonly leader: ChildProcess
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
  /** Its descriptor 3: see `Containment.wrap`. */
  readonly liveness: Readable
}

/**
 * Starts it at once, so that there is no moment in which a process runs that nobody knows of; or resolves to the code
 * with which the system refuses it, which Node throws or tells by an event.
 */
const launch = ({ argv: [command, ...args], cwd, env }: Omit<Command, "stdin">): Started | Promise<string> => {
  try {
    const leader = spawn(command, args, {
      cwd,
      env,
      // A group of its own, for signals.
      detached: true,
      stdio: ["pipe", "pipe", "pipe", "pipe"],
    })
    const refused = new Promise<string>((resolve) => leader.on("error", (error) => resolve(codeOf(error))))
    const { stderr, stdin, stdio, stdout } = leader
    // Node makes no pipes where no descriptors are left, whatever its types say.
    const liveness = leader.pid === undefined ? null : stdio[3]
    if (stdin === null || stdout === null || stderr === null || !(liveness instanceof Readable)) return refused
    return { leader, stdin, stdout, stderr, liveness }
  } catch (error) {
    return Promise.resolve(codeOf(error))
  }
}

/** The system's code of an error, such as `EMFILE`. */
export const codeOf = (error: unknown): string =>
  error instanceof Object && "code" in error && typeof error.code === "string" ? error.code : "UNKNOWN"

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
const exitOf = (exitCode: number | null, signal: string | null) => ({
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
  let stopped = false
  let exited: Promise<readonly [number | null, string | null]> = Promise.resolve([null, null])
  /** After the exit: that nothing is left, and that the pipes are closed. */
  let gone: Promise<boolean> = Promise.resolve(true)

  const signalGroup = (signal: NodeJS.Signals): void => {
    if (child?.leader.pid === undefined) return
    try {
      process.kill(-child.leader.pid, signal)
    } catch {
      // The group is empty.
    }
  }

  const close = (): void => {
    for (const pipe of child?.leader.stdio ?? []) pipe?.destroy()
  }

  const clear = async (signal: string | null): Promise<boolean> => {
    // A namespace that ended by itself is empty. Whatever was killed from outside may leave something for a moment.
    const empty = containment.mode === "namespace" && signal === null
    if (!empty) signalGroup("SIGKILL")
    const [strays] = await Promise.all([empty ? false : killStrays(), stopped ? undefined : drain()])
    close()
    return !strays
  }

  const drain = async (): Promise<void> => {
    if (child === undefined) return
    const ends = Promise.all([child.stdout, child.stderr, child.liveness].map(readToEnd))
    // Where this process itself was held up, the timer is due before the pipes have been looked at: look once more.
    if (!(await settles(ends, drainMillis))) await setImmediate()
  }

  return {
    run: async (command) => {
      const launched = launch({ ...command, argv: containment.wrap(command.argv) })
      if (launched instanceof Promise) return { _tag: "Refused", code: await launched }
      child = launched
      const { liveness, stderr, stdin, stdout } = launched
      exited = new Promise((resolve) => launched.leader.once("exit", (code, signal) => resolve([code, signal])))
      gone = exited.then(([, signal]) => clear(signal))

      // Closed early or broken: what the command makes of its input is told by its exit.
      for (const pipe of [stdin, stdout, stderr, liveness]) pipe.on("error", () => {})
      // Output may be read before the line that says so.
      for (const pipe of [liveness, stdout]) {
        pipe.once("data", () => {
          begun = true
        })
      }
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
      stdin.end(command.stdin)

      const exit = async (): Promise<Ended> => {
        const [exitCode, signal] = await exited
        await gone
        return begun ? { _tag: "Exited", ...exitOf(exitCode, signal) } : { _tag: "Refused", code: "ECONTAIN" }
      }
      return Promise.race([stop, exit()])
    },

    end: async () => {
      if (child === undefined) return { gone: true, ending: null }
      const { leader } = child
      // Once it has exited, its id may be another's.
      const runs = () => leader.exitCode === null && leader.signalCode === null
      const since = performance.now()
      const signals: Array<NodeJS.Signals> = []
      if (runs() && begun && graceMillis > 0) {
        signals.push("SIGTERM")
        signalGroup("SIGTERM")
        // One that is stopped cannot end.
        signalGroup("SIGCONT")
        await settles(exited, graceMillis)
      }
      if (runs()) {
        signals.push("SIGKILL")
        signalGroup("SIGKILL")
      }
      const isGone = (await settles(gone, killMillis)) && (await gone)
      close()
      if (signals.length === 0) return { gone: isGone, ending: null }
      const { exitCode, signal } = exitOf(leader.exitCode, leader.signalCode)
      return { gone: isGone, ending: { signals, exitCode, signal, millis: Math.round(performance.now() - since) } }
    },
  }
}
