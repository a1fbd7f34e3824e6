/**
 * What a command line has to tell, to be run as an LLM: the contract of the files beside this one.
 */
import type { LlmError } from "../Job/JobError.js"
import type { Input, Usage } from "../Job.js"

/** What the downstream complains of: its own words, and what else it tells. */
export interface Complaint {
  readonly message: string
  /** As a field of an event or an exit code tells it; else it is read from the status and the message. */
  readonly kind?: ComplaintKind | undefined
  /** The HTTP status of the downstream's answer, as a field of an event tells it. */
  readonly status?: number | undefined
  /** How the message tells the HTTP status, as its first group: words, which prove less than `status`. */
  readonly statusIn?: RegExp | undefined
  /** When it may be asked again, as a field of an event tells it: milliseconds since the epoch. */
  readonly retryAt?: number | undefined
}

export type ComplaintKind = "auth" | "quota" | "rate" | "concurrency" | "overloaded" | "budget"

/** What a decoder finds in standard output. */
export type Event =
  /** A piece of the answer. */
  | { readonly _tag: "Text"; readonly text: string }
  /** What the attempt has used so far, all in all. */
  | { readonly _tag: "Usage"; readonly usage: Usage }
  /** The answer is complete, or will never be. Whatever comes after it is not read. */
  | { readonly _tag: "Final"; readonly complaint: Complaint | null }
  /** A part of the answer, or its end, is in a line that is longer than the decoder was allowed to keep. */
  | { readonly _tag: "TooLong" }

/** Turns standard output into events. Text may be cut anywhere: the events are the same. */
export interface Decoder {
  readonly push: (text: string) => ReadonlyArray<Event>
  /** Standard output has ended. */
  readonly end: () => ReadonlyArray<Event>
}

/** Everything that is known of a command that has exited. */
export interface Exit {
  /** What its job was given: words of it in a complaint prove nothing. */
  readonly input: Input
  /** Its last `Final`. */
  readonly final: Complaint | null | undefined
  readonly usage: Usage | undefined
  /** What it was allowed to cost, in US dollars. */
  readonly maxCostUsd: number | null
  readonly exitCode: number | null
  readonly signal: string | null
  /** The end of its standard error. */
  readonly stderr: string
}

export interface Adapter {
  /** As `OFFLOAD_LLM` names it. */
  readonly name: string
  /** The command to find on PATH. */
  readonly command: string
  /** The environment variables that its documentation names and that it may therefore see. */
  readonly env: ReadonlyArray<string>
  /**
   * Its arguments. Never the prompt: everybody on the machine can read arguments, and they are short. The system prompt
   * goes there where the command line has no other place for one. `maxCostUsd` is for a command line that stops by
   * itself when it has cost so much.
   */
  readonly args: (input: Input, maxCostUsd: number | null) => ReadonlyArray<string>
  /** What goes to its standard input: the prompt, with the system prompt before it where no argument takes that. */
  readonly stdin: (input: Input) => string
  /** A fresh decoder. `maxLine` is the longest line it may keep, in UTF-16 units. */
  readonly decoder: (limits: { readonly maxLine: number }) => Decoder
  /** What was used, where standard error tells it and not standard output. */
  readonly usageIn?: (stderr: string) => Usage | undefined
  /** Which error an exit means; `null`: none. `now` is in milliseconds since the epoch. */
  readonly classify: (exit: Exit, now: number) => LlmError | null
}

/** The prompt alone. */
export const promptOnly = ({ prompt }: Input): string => prompt

/** For a command line without an argument for the system prompt. */
export const systemFirst = ({ prompt, system }: Input): string =>
  system === undefined ? prompt : `${system}\n\n${prompt}`

/** `--name=value`, or nothing. In one argument, so that a value never passes for an option. */
export const option = (name: string, value: string | undefined): ReadonlyArray<string> =>
  value === undefined ? [] : [`--${name}=${value}`]

/** Standard output is the answer as it is. */
export const plainText = (): Decoder => ({
  push: (text) => [{ _tag: "Text", text }],
  end: () => [],
})
