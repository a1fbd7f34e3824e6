/**
 * How the processes of an attempt are held together, so that all of them can be ended, and end with the service.
 *
 * - `namespace` (Linux): a PID namespace. Nothing leaves it, and the kernel ends it with its first process.
 * - `group`: a process group, whose leader adopts and ends what leaves it. Where it cannot, or it was killed, what left
 *   the group is found by its cgroup, where the service may make one, else by a search for what it inherited
 *   (`Marker.ts`).
 *
 * Both are made by the launcher (`launcher.pl`), of which the leader is a fork.
 *
 * `docs/security.md` says what holds in each of them.
 */
import type { Readable } from "node:stream"
import type { Ending } from "../Job.js"

export type Mode = "namespace" | "group"

/** A command and its arguments. */
export type Argv = readonly [command: string, ...args: Array<string>]

export interface Launch {
  readonly argv: Argv
  /** The working folder; `null`: the empty folder of the sandbox. */
  readonly cwd: string | null
  /** The command's whole environment, but for `TMPDIR`, which is a folder of the sandbox. */
  readonly env: Readonly<Record<string, string>>
  readonly stdin: string
  /** The command begins now: before that there is nothing to end gracefully. */
  readonly onBegin: () => void
}

/** The code or the signal of a process that has ended, as Node tells them. */
export type Exit = readonly [code: number | null, signal: NodeJS.Signals | null]

/** Why the machine does not start a process. */
export interface Refusal {
  /** The system's code, such as `EMFILE`; `ECONTAIN` where it gave none. */
  readonly code: string
  /** What was refused, for the person who reads it. */
  readonly detail: string
  /** It is the command itself that the system does not execute, on any attempt. */
  readonly isCommand?: true
}

/** What is known when everything of a command was killed. */
export interface Cleared {
  /** Whether nothing is left. */
  readonly gone: boolean
  readonly knownBy: NonNullable<Ending["knownBy"]>
}

/** A command that has been started. */
export interface Started {
  readonly stdout: Readable
  readonly stderr: Readable
  /** Its own exit; or that of its sandbox, where this ended first. */
  readonly exited: Promise<Exit>
  /** Sends a signal to every process that has not left the group. */
  readonly signal: (signal: NodeJS.Signals) => void
  /** After the exit: kills what is left. */
  readonly clear: (exit: Exit) => Promise<Cleared>
  /** After the exit: why the command did not begin; `null`: it did. */
  readonly failure: () => Refusal | null
  /** Closes the pipes. To be called when the command has ended, or cannot be ended; later calls do nothing. */
  readonly close: () => void
}

/** A place for one command, made before the command is known. */
export interface Sandbox {
  /** Starts the command; to be called at most once. Or says why the system would not take it. */
  readonly launch: (launch: Launch) => Started | Refusal
  /** Ends it, if no command was launched. */
  readonly discard: () => void
  /** Resolves when no process of it is left, but for the one that waited for its command and is about to end. */
  readonly gone: Promise<void>
  /** Whether it can still take its command. */
  readonly isUsable: () => boolean
  /** Resolves when its folders are removed, or cannot be. */
  readonly removed: Promise<void>
}

/** Gives sandboxes, each for one command. */
export interface Sandboxes {
  readonly take: () => Promise<Sandbox | Refusal>
}

export const isRefusal = (value: object): value is Refusal => "code" in value && "detail" in value
