/**
 * One command and every process that it starts: run, read, and ended as a whole.
 *
 * Times are those of the machine, not of Effect's `Clock`: a process does not wait for a clock that is under test.
 */
import { ChildProcess } from "node:child_process"
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import { constants } from "node:os"
import type { Readable } from "node:stream"
import { setImmediate, setTimeout } from "node:timers/promises"
import { execa } from "execa"
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
  /** Ends the command when it fires. Who waits for that to be done calls `end`. */
  readonly cancelSignal: AbortSignal
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

const launch = ({ argv: [command, ...args], cwd, env, cancelSignal }: Omit<Command, "stdin">) =>
  execa(command, args, {
    cwd,
    env,
    extendEnv: false,
    // A group of its own, for signals.
    detached: true,
    stdio: ["pipe", "pipe", "pipe", "pipe"],
    buffer: false,
    encoding: "buffer",
    reject: false,
    cancelSignal,
    // SIGKILL is ours to send, to the group.
    forceKillAfterDelay: false,
    verbose: "none",
  })

type Subprocess = ReturnType<typeof launch>

/**
 * Node reports that no descriptors are left by an event on a child that has no pipes; execa trips over the missing
 * pipes before it listens, and an `error` event without a listener ends the service. So listen before execa can.
 * Synchronous, so that there is no moment in which a process runs that nobody knows of.
 */
const launchSafely = (command: Command): Subprocess | Promise<unknown> => {
  let failed: Promise<unknown> | undefined
  const onChild = (message: unknown): void => {
    if (message instanceof Object && "process" in message && message.process instanceof ChildProcess) {
      const child = message.process
      failed = new Promise((resolve) => child.once("error", resolve))
    }
  }
  subscribe("child_process", onChild)
  try {
    const subprocess = launch(command)
    return subprocess.pid === undefined ? subprocess.then((result) => result) : subprocess
  } catch (error) {
    return failed ?? Promise.resolve(error)
  } finally {
    unsubscribe("child_process", onChild)
  }
}

/** The system's code of an error, such as `EMFILE`. */
export const codeOf = (error: unknown): string =>
  error instanceof Object && "code" in error && typeof error.code === "string" ? error.code : "UNKNOWN"

/** Resolves to whether `promise` settled in time. */
const settles = (promise: Promise<unknown>, millis: number): Promise<boolean> => {
  const timer = new AbortController()
  const late = setTimeout(millis, false, { signal: timer.signal }).catch(() => false)
  return Promise.race([promise.then(() => true), late]).finally(() => timer.abort())
}

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
  let child: Subprocess | undefined
  /** Whether the command is known to have begun: before that, there is nothing to end gracefully. */
  let begun = false
  let stopped = false
  let exited: Promise<readonly [number | null, string | null]> = Promise.resolve([null, null])
  /** After the exit: that nothing is left, and that the pipes are closed. */
  let gone: Promise<boolean> = Promise.resolve(true)

  const signalGroup = (signal: NodeJS.Signals): void => {
    if (child?.pid === undefined) return
    try {
      process.kill(-child.pid, signal)
    } catch {
      // The group is empty.
    }
  }

  const close = (): void => {
    for (const pipe of child?.stdio ?? []) pipe?.destroy()
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
    const [, stdout, stderr, liveness] = child.stdio
    const ends = Promise.all([stdout, stderr, liveness].map(readToEnd))
    // Where this process itself was held up, the timer is due before the pipes have been looked at: look once more.
    if (!(await settles(ends, drainMillis))) await setImmediate()
  }

  return {
    run: async (command) => {
      const launched = launchSafely({ ...command, argv: containment.wrap(command.argv) })
      if (!("pid" in launched)) return { _tag: "Refused", code: codeOf(await launched) }
      child = launched
      exited = new Promise((resolve) => launched.once("exit", (code, signal) => resolve([code, signal])))
      gone = exited.then(([, signal]) => clear(signal))

      const [stdin, stdout, stderr, liveness] = launched.stdio
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
      // Once it has exited, its id may be another's.
      const runs = (process: Subprocess) => process.exitCode === null && process.signalCode === null
      const since = performance.now()
      const signals: Array<NodeJS.Signals> = []
      if (runs(child) && begun && graceMillis > 0) {
        signals.push("SIGTERM")
        signalGroup("SIGTERM")
        // One that is stopped cannot end.
        signalGroup("SIGCONT")
        await settles(exited, graceMillis)
      }
      if (runs(child)) {
        signals.push("SIGKILL")
        signalGroup("SIGKILL")
      }
      const isGone = (await settles(gone, killMillis)) && (await gone)
      close()
      if (signals.length === 0) return { gone: isGone, ending: null }
      const { exitCode, signal } = exitOf(child.exitCode, child.signalCode)
      return { gone: isGone, ending: { signals, exitCode, signal, millis: Math.round(performance.now() - since) } }
    },
  }
}
