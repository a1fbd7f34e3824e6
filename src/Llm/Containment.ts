/**
 * How the processes of an attempt are held together, so that all of them can be ended, and end with the service.
 *
 * - `namespace` (Linux): a PID namespace. Nothing gets out of it, and the kernel ends it with its first process.
 * - `group`: a process group. A process may leave it with `setsid`; it is then found by its cookie.
 */
import type { Readable } from "node:stream"

export type Mode = "namespace" | "group"

/** A command and its arguments. */
export type Argv = readonly [command: string, ...args: Array<string>]

export interface Launch {
  readonly argv: Argv
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly stdin: string
  /** The command begins now: up to here there was nothing to end gracefully. */
  readonly onBegin: () => void
  /** Takes what the means of containment complain of. */
  readonly onError: (chunk: Uint8Array) => void
}

/** The code or the signal of a process that has ended, as Node tells them. */
export type Exit = readonly [code: number | null, signal: NodeJS.Signals | null]

/** A command that has been started. */
export interface Started {
  readonly stdout: Readable
  readonly stderr: Readable
  /** All that must have been read before its end is known as a whole; the two above are among them. */
  readonly pipes: ReadonlyArray<Readable>
  /** Its own exit; or that of its means of containment, where these went first. */
  readonly exited: Promise<Exit>
  /** Sends a signal to all that have not left the group. */
  readonly signal: (signal: NodeJS.Signals) => void
  /** Lets go of it. To be called when it has ended, or cannot be; later calls do nothing. */
  readonly close: () => void
}

/** What can start one command. Either of its functions is called, once. */
export interface Place {
  /** Whether a command was there before: it may have done something to it that comes out only now. */
  readonly isUsed: boolean
  /** Starts it at once; or resolves to the code with which the system refuses it. */
  readonly launch: (launch: Launch) => Started | Promise<string>
  /** No command is started after all. */
  readonly release: () => void
}

export interface Containment {
  readonly mode: Mode
  /** Makes ready for a command, while none of its processes is there yet; or resolves to the code of a refusal. */
  readonly prepare: (onError: Launch["onError"]) => Promise<Place | string>
  /** Resolves when nothing is left that was kept for further commands, or after seconds if the system cannot end it. */
  readonly close: () => Promise<void>
}
