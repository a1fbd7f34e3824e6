/** The service without HTTP: in memory, with an LLM that does what its prompt says. */
import { Data, Effect, Layer, Logger, Schedule } from "effect"
import { LlmExit } from "../../src/Job/JobError.js"
import type { Job, JobId, Metadata, Status } from "../../src/Job.js"
import { Llm, type LlmError, type LlmRequest } from "../../src/Llm.js"
import { Spool } from "../../src/Offload/Spool.js"
import { Offload } from "../../src/Offload.js"
import { OffloadConfig, type Settings } from "../../src/OffloadConfig.js"
import * as Memory from "../../src/Store/Memory.js"
import type { Store } from "../../src/Store.js"
import { Webhook } from "../../src/Webhook.js"

export type Script = (request: LlmRequest) => Effect.Effect<unknown, LlmError>

/** An `Llm` whose calls do what `script` says. */
export const llm = (script: Script): Layer.Layer<Llm> =>
  Layer.succeed(Llm, {
    adapter: () => "scripted",
    command: () => "none",
    run: (request) => Effect.asVoid(script(request)),
    killOrphans: Effect.succeed(0),
  })

/** The service over a store: in memory, unless another one is given. */
export const service = (
  script: Script,
  settings: Partial<Settings> = {},
  store: Layer.Layer<Store> = Memory.layer,
  spool: Layer.Layer<Spool> = Spool.layerNone,
  webhook: Layer.Layer<Webhook> = Webhook.layerNone,
) =>
  Offload.layer.pipe(
    Layer.provide(llm(script)),
    Layer.provide(webhook),
    Layer.provideMerge(
      Layer.mergeAll(store, spool, OffloadConfig.layer({ retryBase: 10, retryMax: 20, drain: 0, ...settings })),
    ),
    Layer.provide(quiet),
  )

const quiet = Logger.remove(Logger.defaultLogger)

export const submit = (prompt: string, options: { readonly maxAttempts?: number; readonly metadata?: Metadata } = {}) =>
  Effect.flatMap(Offload, (offload) =>
    offload.submit({
      caller: "test",
      resource: "llm",
      input: { prompt },
      metadata: options.metadata ?? {},
      maxAttempts: options.maxAttempts,
    }),
  ).pipe(Effect.map(({ snapshot }) => snapshot.job))

class NotYet extends Data.TaggedError("NotYet")<{ readonly message: string }> {}

/** Tries again until it succeeds, for a minute. */
export const soon = Schedule.intersect(Schedule.spaced(5), Schedule.recurs(12_000))

/** The job, once it is as `condition` asks; fails loudly after a minute. */
export const until = (id: JobId, condition: (job: Job) => boolean) =>
  Effect.flatMap(Offload, (offload) => offload.job(id)).pipe(
    Effect.filterOrFail(condition, ({ attempt, status }) => new NotYet({ message: `${status}, attempt ${attempt}` })),
    Effect.retry(soon),
  )

export const untilStatus = (id: JobId, ...statuses: ReadonlyArray<Status>) =>
  until(id, (job) => statuses.includes(job.status))

/** A log line as a test sees it. */
export interface Line {
  readonly level: string
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** Waits until it is so. What is told of a job may come a moment after its record. */
export const holds = (condition: () => boolean) =>
  Effect.sync(condition).pipe(
    Effect.filterOrFail(
      (isSo) => isSo,
      () => new NotYet({ message: String(condition) }),
    ),
    Effect.retry(soon),
  )

/** Gathers the log instead of printing it. */
export const captureLog = (lines: Array<Line>): Layer.Layer<never> =>
  Logger.replace(
    Logger.defaultLogger,
    Logger.make(({ annotations, logLevel, message }) => {
      lines.push({
        level: logLevel.label,
        message: Array.isArray(message) ? message.join(" ") : String(message),
        annotations: Object.fromEntries(annotations),
      })
    }),
  )

export const failing = (exitCode = 1) =>
  Effect.fail(new LlmExit({ command: "scripted", exitCode, signal: null, stderr: "it broke" }))
