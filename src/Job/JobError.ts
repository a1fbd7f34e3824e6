/**
 * Every way in which a job can fail, and what each one means for it.
 * The table `dispositions` is the truth: the pages of `/problems`, `docs/errors.md` and the handlers that `settle`
 * is given are all made from it. A new error that lacks a row does not compile.
 */
import { Schema } from "effect"
import type { Failure } from "../Job.js"
import { toIso } from "./Plausible.js"

/** The command is not on PATH or may not be executed. */
export class LlmNotFound extends Schema.TaggedError<LlmNotFound>()("LlmNotFound", {
  command: Schema.String,
}) {
  override get message(): string {
    return `The command '${this.command}' was not found on PATH, or may not be executed.`
  }
}

/** The command ended with a failure that says nothing more precise. */
export class LlmExit extends Schema.TaggedError<LlmExit>()("LlmExit", {
  command: Schema.String,
  exitCode: Schema.NullOr(Schema.Number),
  signal: Schema.NullOr(Schema.String),
  stderr: Schema.String,
}) {
  override get message(): string {
    return this.signal === null
      ? `'${this.command}' exited with code ${this.exitCode}.`
      : `'${this.command}' was ended by ${this.signal}.`
  }
}

/** The attempt ran longer than its timeout, or past the job's deadline. */
export class LlmTimeout extends Schema.TaggedError<LlmTimeout>()("LlmTimeout", {
  millis: Schema.Number,
  /** The end of what the command had written to its standard error by then. */
  stderr: Schema.String,
}) {
  override get message(): string {
    return `The attempt was stopped after ${this.millis / 1000} s, its limit.`
  }
}

/**
 * What a complaint rests on: `structured` is a field of an event, such as an HTTP status or a rate-limit event, `text`
 * are words, which prove less.
 */
export const Evidence = Schema.Literal("structured", "text")
export type Evidence = typeof Evidence.Type

/** The downstream refuses for now: too many requests at once, too fast, or a quota that is used up until a time. */
export class LlmRateLimited extends Schema.TaggedError<LlmRateLimited>()("LlmRateLimited", {
  kind: Schema.Literal("concurrency", "rate", "quota"),
  /** Milliseconds after which the downstream may be asked again, where it said so. */
  retryAfterMillis: Schema.optional(Schema.Number),
  /** What `kind` and `retryAfterMillis` rest on. */
  evidence: Evidence,
  stderr: Schema.String,
}) {
  override get message(): string {
    const until =
      this.retryAfterMillis === undefined ? "" : ` It may be asked again in ${this.retryAfterMillis / 1000} s.`
    return `The downstream refused the request by its ${this.kind} limit.${until}`
  }
}

/** The downstream is overloaded or unavailable. */
export class LlmOverloaded extends Schema.TaggedError<LlmOverloaded>()("LlmOverloaded", {
  stderr: Schema.String,
  retryAfterMillis: Schema.optional(Schema.Number),
  evidence: Evidence,
}) {
  override get message(): string {
    return "The downstream said that it is overloaded or unavailable."
  }
}

/** The command line has no valid login or key. */
export class LlmAuth extends Schema.TaggedError<LlmAuth>()("LlmAuth", {
  command: Schema.String,
  stderr: Schema.String,
}) {
  override get message(): string {
    return `'${this.command}' is not logged in, or its key was refused.`
  }
}

/** The answer passed its limit, or what the command wrote beside it; the attempt was killed, what came before is kept. */
export class LlmOutputTooLarge extends Schema.TaggedError<LlmOutputTooLarge>()("LlmOutputTooLarge", {
  /** The limit of `what`. */
  limitBytes: Schema.Number,
  /** `output`: all that the command writes to its standard output, tools and thoughts included. */
  what: Schema.Literal("answer", "output"),
}) {
  override get message(): string {
    return this.what === "answer"
      ? `The answer passed the limit of ${this.limitBytes} bytes; the first part is kept.`
      : `The command wrote more than ${this.limitBytes} bytes and did not end its answer; what it had answered is kept.`
  }
}

/** The command ended well but its output ended early. */
export class LlmOutputTruncated extends Schema.TaggedError<LlmOutputTruncated>()("LlmOutputTruncated", {
  command: Schema.String,
}) {
  override get message(): string {
    return `'${this.command}' ended before it had said that its answer was complete; the first part is kept.`
  }
}

/** The machine could not start the command: no room for a process, a folder that is gone, arguments it does not take. */
export class LlmSpawn extends Schema.TaggedError<LlmSpawn>()("LlmSpawn", {
  command: Schema.String,
  /** The system's error code, such as `EMFILE`; `ECONTAIN` where the command's processes could not be contained. */
  code: Schema.String,
  /** What was refused: names the folder, or repeats what the means of containment said. */
  reason: Schema.String,
}) {
  override get message(): string {
    return `'${this.command}' was not started: ${this.reason}.`
  }
}

/** What the job or the attempt may cost is spent; the attempt was killed, and what came before is kept. */
export class BudgetExceeded extends Schema.TaggedError<BudgetExceeded>()("BudgetExceeded", {
  spentUsd: Schema.Number,
  limitUsd: Schema.Number,
}) {
  override get message(): string {
    return `The limit of ${this.limitUsd} USD was reached: ${this.spentUsd} USD were spent.`
  }
}

/** The service does not send to this URL, or not to an address that its host has. Nothing was sent. */
export class WebhookRefused extends Schema.TaggedError<WebhookRefused>()("WebhookRefused", {
  /** Of the whole URL it alone is told: the path of a webhook is often its secret. */
  host: Schema.String,
  reason: Schema.String,
}) {
  override get message(): string {
    return `The webhook at '${this.host}' is not allowed: ${this.reason}.`
  }
}

/** The receiver could not be reached, or did not answer in time. It may have got the message all the same. */
export class WebhookUnreachable extends Schema.TaggedError<WebhookUnreachable>()("WebhookUnreachable", {
  host: Schema.String,
  /** The system's error code, such as `ECONNREFUSED`; `ETIMEDOUT` where the answer did not come in time. */
  code: Schema.String,
}) {
  override get message(): string {
    return `The webhook at '${this.host}' could not be reached, or did not answer: ${this.code}.`
  }
}

/** The receiver answered with a status that takes nothing on: a redirect is one of them. */
export class WebhookStatus extends Schema.TaggedError<WebhookStatus>()("WebhookStatus", {
  host: Schema.String,
  httpStatus: Schema.Number,
  /** Milliseconds that the receiver asked us to wait. */
  retryAfterMillis: Schema.optional(Schema.Number),
}) {
  override get message(): string {
    return `The webhook at '${this.host}' answered ${this.httpStatus}.`
  }
}

/** The receiver answered 410: it wants no more of this. */
export class WebhookGone extends Schema.TaggedError<WebhookGone>()("WebhookGone", {
  host: Schema.String,
  httpStatus: Schema.Literal(410),
}) {
  override get message(): string {
    return `The webhook at '${this.host}' answered 410: it is gone.`
  }
}

/** The job's deadline passed before an attempt could begin. */
export class Expired extends Schema.TaggedError<Expired>()("Expired", {
  deadlineAt: Schema.Number,
}) {
  override get message(): string {
    return `The deadline ${toIso(this.deadlineAt)} passed while the job was queued.`
  }
}

/** The service died, or was taken for dead, while the attempt ran. */
export class Orphaned extends Schema.TaggedError<Orphaned>()("Orphaned", {
  attempt: Schema.Number,
  /** In how many deaths of the service the job was running, this one included. */
  deaths: Schema.Number,
  /** Whether nothing else ran in the process that died: no other job can be the cause. */
  alone: Schema.Boolean,
}) {
  override get message(): string {
    return this.alone
      ? `The service died while attempt ${this.attempt} ran alone, and in ${this.deaths - 1} attempts before it: this job is taken for the cause, and is not tried again. Its output up to then is kept.`
      : `The service died while attempt ${this.attempt} ran. This costs the job no attempt. Its output up to then is kept.`
  }
}

/** The work died of something that nobody foresaw: a bug of this program or of the work. */
export class Defect extends Schema.TaggedError<Defect>()("Defect", {
  name: Schema.String,
  cause: Schema.String,
}) {
  override get message(): string {
    return `The work died of an unforeseen ${this.name}.`
  }
}

/** What a command-line LLM call can fail with. */
export type LlmError =
  | LlmNotFound
  | LlmExit
  | LlmTimeout
  | LlmRateLimited
  | LlmOverloaded
  | LlmAuth
  | LlmOutputTooLarge
  | LlmOutputTruncated
  | LlmSpawn
  | BudgetExceeded

/** What a delivery can fail with. */
export type WebhookError = WebhookRefused | WebhookUnreachable | WebhookStatus | WebhookGone

/** Everything that can stand in `error.tag` for the work of this program. */
export type JobError = LlmError | WebhookError | Expired | Orphaned | Defect

/** What an error means for its job. */
export interface Disposition {
  readonly title: string
  /** Whether another attempt could succeed without anybody doing anything. */
  readonly retryable: boolean
  /** The level of its one log line. */
  readonly level: "Info" | "Warning" | "Error"
  /** What the person who reads it can do. */
  readonly remedy: string
}

/** What each error means: the one table. */
export const dispositions = {
  LlmNotFound: {
    title: "Command not found",
    retryable: false,
    level: "Error",
    remedy: "Install the command, or name another one with OFFLOAD_LLM or OFFLOAD_LLM_COMMAND.",
  },
  LlmExit: {
    title: "Command failed",
    retryable: true,
    level: "Warning",
    remedy: "Read `stderr` of the attempt; run the command by hand with the same prompt.",
  },
  LlmTimeout: {
    title: "Attempt timed out",
    retryable: true,
    level: "Warning",
    remedy: "Read `stderr` of the attempt; raise `timeoutSeconds` or `deadlineSeconds`, or ask for less.",
  },
  LlmRateLimited: {
    title: "Rate limited by the downstream",
    retryable: true,
    level: "Warning",
    remedy:
      "Lower the permits of the resource, or wait: the next attempt follows by itself. A quota that is used up until a time holds the resource until then, where a field of an event says so, or the words of two independent jobs; words of one job hold that job alone.",
  },
  LlmOverloaded: {
    title: "Downstream overloaded",
    retryable: true,
    level: "Warning",
    remedy: "Wait: the next attempt follows by itself.",
  },
  LlmAuth: {
    title: "Downstream refused the login",
    retryable: false,
    level: "Error",
    remedy: "Log the command line in, or give it a valid key, as the service's user.",
  },
  LlmOutputTooLarge: {
    title: "Output too large",
    retryable: false,
    level: "Warning",
    remedy: "Ask for less, or raise OFFLOAD_MAX_OUTPUT_BYTES; see in `detail` what was too large.",
  },
  LlmOutputTruncated: {
    title: "Output ended early",
    retryable: true,
    level: "Warning",
    remedy: "Wait: the next attempt follows by itself.",
  },
  LlmSpawn: {
    title: "Process could not be started",
    retryable: true,
    level: "Error",
    remedy:
      "Mend what the detail names: a folder that is gone, or the limits of the machine (file descriptors, processes, memory); or lower the permits. The attempt does not count, and the next one follows by itself.",
  },
  BudgetExceeded: {
    title: "Budget exceeded",
    retryable: false,
    level: "Warning",
    remedy: "Raise the cost limit of the job or of the resource, or ask for less.",
  },
  WebhookRefused: {
    title: "Webhook not allowed",
    retryable: false,
    level: "Warning",
    remedy:
      "Name the host, or the range of its addresses, in OFFLOAD_WEBHOOK_ALLOW_HOSTS, or use a public `https:` URL.",
  },
  WebhookUnreachable: {
    title: "Webhook not reached",
    retryable: true,
    level: "Warning",
    remedy:
      "See whether the receiver is up, has a valid certificate, and answers within OFFLOAD_WEBHOOK_TIMEOUT_SECONDS; the next attempt follows by itself.",
  },
  WebhookStatus: {
    title: "Webhook not accepted",
    retryable: true,
    level: "Warning",
    remedy: "Let the receiver answer 2xx, without a redirect; the next attempt follows by itself.",
  },
  WebhookGone: {
    title: "Webhook gone",
    retryable: false,
    level: "Warning",
    remedy: "The receiver wants no more deliveries: submit jobs with another webhook.",
  },
  Expired: {
    title: "Deadline passed in the queue",
    retryable: false,
    level: "Warning",
    remedy: "Raise `deadlineSeconds`, or add permits to the resource.",
  },
  Orphaned: {
    title: "Service died during the attempt",
    retryable: true,
    level: "Warning",
    remedy:
      "The next attempt follows by itself; after two deaths it runs alone. A job that fails with this error ran alone when the service died for the third time: look at the end of the service's log and at the system's (memory, signals) for what ended it, and change the job before you retry it.",
  },
  Defect: {
    title: "Unforeseen failure",
    retryable: false,
    level: "Error",
    remedy: "Read `cause` of the attempt: this is a bug, of the work or of this program.",
  },
} as const satisfies Record<JobError["_tag"], Disposition>

/** The longest `stderr` and `cause` that a failure keeps, in characters. */
const maxStderr = 4096
const maxCause = 8192

const tail = (text: string, limit: number): string => (text.length <= limit ? text : `…${text.slice(1 - limit)}`)

const dispositionOf = (error: JobError): Disposition => {
  const disposition: Disposition = dispositions[error._tag]
  return error._tag === "Orphaned" && error.alone ? { ...disposition, retryable: false } : disposition
}

/** The record that an error leaves in its job. */
export const toFailure = (error: JobError): Failure => {
  const { retryable, title } = dispositionOf(error)
  return {
    tag: error._tag,
    title,
    detail: error.message,
    retryable,
    ...("retryAfterMillis" in error && error.retryAfterMillis !== undefined
      ? { retryAfterMillis: error.retryAfterMillis }
      : {}),
    ...("exitCode" in error && error.exitCode !== null ? { exitCode: error.exitCode } : {}),
    ...("httpStatus" in error ? { httpStatus: error.httpStatus } : {}),
    ...("stderr" in error && error.stderr !== "" ? { stderr: tail(error.stderr, maxStderr) } : {}),
    ...(error._tag === "Defect" ? { cause: error.cause.slice(0, maxCause) } : {}),
  }
}
