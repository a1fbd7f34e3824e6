/**
 * What the end of a command means: read from its final event first, then from its exit, then from its words.
 */
import {
  BudgetExceeded,
  LlmAuth,
  type LlmError,
  LlmExit,
  LlmOutputTruncated,
  LlmOverloaded,
  LlmRateLimited,
} from "../Job/JobError.js"
import type { Adapter, Complaint, ComplaintKind, Exit } from "./Adapter.js"
import { retryAt } from "./RetryAt.js"

/** A status in running text needs a word beside it: `429` alone may be a line number. */
const status = (codes: string): string =>
  `(?:http(?:/[\\d.]+)?|status(?:[ _]?code)?|code|error)["']?[\\s:=(]{0,3}(?:${codes})\\b`

/** Earlier lines win: a used-up quota is mostly told as a rate limit too. */
const words: ReadonlyArray<readonly [ComplaintKind, RegExp]> = [
  [
    "quota",
    /(?<!check )quota|usage[ _]limit|(?:hour|daily|weekly|monthly|session)[ -]limit reached|limit reached ?(?:\||. ?resets)|hit your (?:\w+ )?limit|credit balance|out of credits?|billing|spend limit|upgrade to plus/i,
  ],
  ["concurrency", /concurren(?:t|cy)|too many (?:simultaneous|parallel)|simultaneous requests|parallel requests/i],
  ["rate", new RegExp(`${status("429")}|rate[ _-]?limit|too many requests|resource[ _]exhausted|throttl`, "i")],
  [
    "auth",
    new RegExp(
      `${status("401")}|unauthori[sz]ed|unauthenticated|invalid (?:x-)?(?:api|access)[ -]?(?:key|token)|invalid_api_key|` +
        "api key (?:not valid|not found|missing|required|expired)|no (?:api )?key (?:found|provided|set)|" +
        "authentication[ _](?:error|failed|required)|not (?:logged|signed) in|(?:please|run|must|need to) .{0,20}log ?in\\b",
      "i",
    ),
  ],
  [
    "overloaded",
    new RegExp(
      `${status("502|503|504|529")}|overloaded|service unavailable|temporarily unavailable|bad gateway|server busy|at capacity|(?:experiencing|due to) high demand`,
      "i",
    ),
  ],
]

const kindOfStatus = (code: number | undefined): ComplaintKind | undefined => {
  if (code === 401 || code === 403) return "auth"
  if (code === 402) return "quota"
  if (code === 429) return "rate"
  return code !== undefined && code >= 500 && code <= 599 ? "overloaded" : undefined
}

const kindOfWords = (text: string): ComplaintKind | undefined => words.find(([, pattern]) => pattern.test(text))?.[0]

const kindOf = ({ kind, message, status }: Complaint): ComplaintKind | undefined => {
  if (kind !== undefined) return kind
  const byStatus = kindOfStatus(status)
  if (byStatus !== undefined && byStatus !== "rate") return byStatus
  const byWords = kindOfWords(message)
  // The status 429 is all of the three limits; which one it is, only the words tell.
  return byStatus === "rate" && byWords !== "quota" && byWords !== "concurrency" ? "rate" : byWords
}

const joined = (...parts: ReadonlyArray<string>): string => parts.filter((part) => part !== "").join("\n")

/** The longest complaint that is read, and kept. */
const maxMessage = 4096

/** The error behind a complaint. */
const toError = (
  { message: words, ...rest }: Complaint,
  { exitCode, maxCostUsd, signal, stderr, usage }: Exit,
  command: string,
  now: number,
): LlmError => {
  const complaint = { ...rest, message: words.slice(0, maxMessage) }
  const at = complaint.retryAt ?? retryAt(complaint.message, now)
  const retryAfterMillis = at === undefined || at <= now ? undefined : at - now
  const told = joined(complaint.message, stderr === complaint.message ? "" : stderr)
  const kind = kindOf(complaint)
  switch (kind) {
    case "budget":
      return new BudgetExceeded({ spentUsd: usage?.costUsd ?? 0, limitUsd: maxCostUsd ?? 0 })
    case "auth":
      return new LlmAuth({ command, stderr: told })
    case "overloaded":
      return new LlmOverloaded({ stderr: told, retryAfterMillis })
    case "quota":
    case "concurrency":
    case "rate":
      return new LlmRateLimited({ kind, stderr: told, retryAfterMillis })
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
