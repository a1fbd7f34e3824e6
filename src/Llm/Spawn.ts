/** Node's `spawn`, with its ways to refuse a process made one. */
import { type ChildProcess, spawn } from "node:child_process"
import type { Duplex, Readable, Writable } from "node:stream"
import type { Argv } from "./Containment.js"

/** A process with its pipes, in a group of its own. */
export interface Spawned {
  readonly leader: ChildProcess
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
  /** Descriptor 3, for reading and writing. */
  readonly control: Duplex
}

export interface Options {
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
}

const isDuplex = (stream: unknown): stream is Duplex =>
  stream instanceof Object && "read" in stream && "write" in stream

/**
 * Starts it at once, so that there is no moment in which a process runs that nobody knows of; or resolves to the code
 * with which the system refuses it, which Node throws or tells by an event.
 */
export const spawnGroup = ([command, ...args]: Argv, { cwd, env }: Options): Spawned | Promise<string> => {
  try {
    const leader: ChildProcess = spawn(command, args, {
      cwd,
      env,
      detached: true,
      stdio: ["pipe", "pipe", "pipe", "pipe"],
    })
    const refused = new Promise<string>((resolve) => leader.on("error", (error) => resolve(codeOf(error))))
    // Node makes no pipes where no descriptors are left, whatever its types say.
    if (leader.pid === undefined) return refused
    const [stdin, stdout, stderr, control] = leader.stdio
    if (stdin === null || stdout === null || stderr === null || !isDuplex(control)) return refused
    // Closed early or broken: what the command makes of its input is told by its exit.
    for (const pipe of [stdin, stdout, stderr, control]) pipe.on("error", () => {})
    return { leader, stdin, stdout, stderr, control }
  } catch (error) {
    return Promise.resolve(codeOf(error))
  }
}

/** Sends a signal to every process of its group. */
export const signalGroup = ({ pid }: ChildProcess, signal: NodeJS.Signals): void => {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch {
    // The group is empty.
  }
}

/** The system's code of an error, such as `EMFILE`. */
export const codeOf = (error: unknown): string =>
  error instanceof Object && "code" in error && typeof error.code === "string" ? error.code : "UNKNOWN"
