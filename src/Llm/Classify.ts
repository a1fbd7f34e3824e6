/**
 * What the end of a command means: read from its final event first, then from its exit, then from its words. Never
 * from its answer, and never from words that the job's own texts could have led to.
 */
import {
  BudgetExceeded,
  type Evidence,
  LlmAuth,
  type LlmError,
  LlmExit,
  LlmOutputTruncated,
  LlmOverloaded,
  LlmRateLimited,
} from "../Job/JobError.js"
import { waitUntil } from "../Job/Plausible.js"
import type { Input } from "../Job.js"
import type { Adapter, Complaint, ComplaintKind, Exit } from "./Adapter.js"
import * as Echo from "./Echo.js"
import * as Phrases from "./Phrases.js"
import { retryAt } from "./RetryAt.js"

const kindOfStatus = (code: number | undefined): ComplaintKind | undefined => {
  if (code === 401 || code === 403) return "auth"
  if (code === 402) return "quota"
  if (code === 429) return "rate"
  return code !== undefined && code >= 500 && code <= 599 ? "overloaded" : undefined
}

/** The longest complaint that is read, and kept. */
const maxMessage = 4096

/** Which complaint it is, when the downstream may be asked again, and what both rest on. */
interface Verdict {
  readonly kind: ComplaintKind | undefined
  readonly retryAfterMillis: number | undefined
  readonly evidence: Evidence
}

/** The status 429 is all of the three limits; which one it is, only the words tell. */
const refined = (byStatus: ComplaintKind | undefined, byWords: ComplaintKind | undefined): ComplaintKind | undefined =>
  byStatus === "rate" && (byWords === "quota" || byWords === "concurrency") ? byWords : (byStatus ?? byWords)

const judge = ({ kind, message, retryAt: at, status, statusIn }: Complaint, input: Input, now: number): Verdict => {
  const own = Echo.own(input)
  const words = own.strip(message)
  const told = kind ?? kindOfStatus(status)
  const byWords = Phrases.kindOf(words, own)
  const found =
    kind ??
    refined(told ?? kindOfStatus(statusIn === undefined ? undefined : Phrases.statusIn(words, statusIn, own)), byWords)
  const structured = waitUntil(at, now)
  const inWords = own.some((text) => retryAt(text, now) !== undefined) ? undefined : waitUntil(retryAt(words, now), now)
  const retryAfterMillis = structured ?? inWords
  const isStructured = told !== undefined && told === found && structured === retryAfterMillis
  return { kind: found, retryAfterMillis, evidence: isStructured ? "structured" : "text" }
}

const joined = (...parts: ReadonlyArray<string>): string => parts.filter((part) => part !== "").join("\n")

/** The error behind a complaint. */
const toError = (
  { message: words, ...rest }: Complaint,
  { exitCode, input, maxCostUsd, signal, stderr, usage }: Exit,
  command: string,
  now: number,
): LlmError => {
  const complaint = { ...rest, message: words.slice(0, maxMessage) }
  const { evidence, kind, retryAfterMillis } = judge(complaint, input, now)
  const told = joined(complaint.message, stderr === complaint.message ? "" : stderr)
  switch (kind) {
    case "budget":
      return new BudgetExceeded({ spentUsd: usage?.costUsd ?? 0, limitUsd: maxCostUsd ?? 0 })
    case "auth":
      return new LlmAuth({ command, stderr: told })
    case "overloaded":
      return new LlmOverloaded({ stderr: told, retryAfterMillis, evidence })
    case "quota":
    case "concurrency":
    case "rate":
      return new LlmRateLimited({ kind, stderr: told, retryAfterMillis, evidence })
    case undefined:
      return new LlmExit({ command, exitCode, signal, stderr: told })
  }
}

/** What an exit code means to one command line; the message is used where standard error has none. */
export type ExitCodes = Readonly<Record<number, Omit<Complaint, "message">>>

const byExit = (exit: Exit, command: string, now: number, codes: ExitCodes): LlmError =>
  exit.signal !== null
    ? new LlmExit({ command, exitCode: exit.exitCode, signal: exit.signal, stderr: exit.stderr })
    : toError({ message: exit.stderr, ...(exit.exitCode === null ? {} : codes[exit.exitCode]) }, exit, command, now)

/** For a command line whose standard output is the answer alone: its exit tells all. */
export const byExitCode =
  (command: string, codes: ExitCodes = {}): Adapter["classify"] =>
  (exit, now) =>
    exit.exitCode === 0 && exit.signal === null ? null : byExit(exit, command, now, codes)

/** For a command line that says at the end whether its answer is complete. */
export const byFinalEvent =
  (command: string, codes: ExitCodes = {}): Adapter["classify"] =>
  (exit, now) => {
    if (exit.final === null) return null
    if (exit.final !== undefined) return toError(exit.final, exit, command, now)
    return exit.exitCode === 0 && exit.signal === null
      ? new LlmOutputTruncated({ command })
      : byExit(exit, command, now, codes)
  }
