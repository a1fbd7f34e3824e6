/**
 * What a job is made of: from a queued job to its settled work. The service's own worker calls an LLM; a program that
 * offloads something else provides another one, and gets the queue, the permits, the retries and the API with it.
 */
import { Clock, Context, Effect, Layer } from "effect"
import { BudgetExceeded, dispositions, type LlmError, toFailure } from "../Job/JobError.js"
import { spentUsd } from "../Job/Transition.js"
import type { JobId, Output } from "../Job.js"
import { Llm } from "../Llm.js"
import type { Resource } from "../OffloadConfig.js"
import type { Store } from "../Store.js"
import type { Outcomes } from "./Outcomes.js"
import type { Permits } from "./Permits.js"
import { CurrentAttempt, type Handled, type Handlers, type Settled, settle } from "./Settle.js"

export class Worker extends Context.Tag("effect-offload/Worker")<
  Worker,
  {
    /** The work of a job, settled. */
    readonly settle: (job: { readonly id: JobId; readonly resource: Resource }) => Settled<Outcomes | Permits | Store>
    /** What runs the jobs of a resource: recorded in each attempt, and shown in `GET /resources`. */
    readonly describe: (resource: string) => { readonly adapter: string; readonly command: string }
    /** Why no job can be run now, by the fault of this machine; `null`, or left out, where one can. */
    readonly trouble?: Effect.Effect<string | null>
    /** Ends whatever an earlier run of this service left running; answers how many processes that were. */
    readonly killOrphans: Effect.Effect<number>
  }
>() {
  /** Jobs that are calls of an LLM. */
  static readonly layerLlm: Layer.Layer<Worker, never, Llm> = Layer.effect(
    Worker,
    Effect.map(Llm, (llm) => ({
      settle: ({ id, resource }) =>
        settle(
          { id, resource: resource.name, adapter: llm.adapter(resource.name) },
          callLlm(llm, resource),
          llmHandlers,
        ),
      describe: (resource) => ({ adapter: llm.adapter(resource), command: llm.command(resource) }),
      ...(llm.trouble === undefined ? {} : { trouble: llm.trouble }),
      killOrphans: llm.killOrphans,
    })),
  )
}

const callLlm = (llm: Llm["Type"], { maxCostUsd }: Resource): Effect.Effect<Output, LlmError, CurrentAttempt> =>
  Effect.gen(function* () {
    const { emit, ended, input, job, used } = yield* CurrentAttempt
    const now = yield* Clock.currentTimeMillis
    const left = job.deadlineAt === null ? Number.POSITIVE_INFINITY : job.deadlineAt - now
    const spent = spentUsd(job)
    if (job.maxCostUsd !== null && spent >= job.maxCostUsd) {
      return yield* new BudgetExceeded({ spentUsd: spent, limitUsd: job.maxCostUsd })
    }
    yield* llm.run({
      resource: job.resource,
      attemptId: `${job.id}.${job.attempt}`,
      input,
      timeoutMillis: Math.max(1, Math.min(job.timeoutMillis, left)),
      maxCostUsd: least(maxCostUsd, job.maxCostUsd === null ? null : job.maxCostUsd - spent),
      onText: emit,
      onUsage: used,
      onEnding: ended,
    })
    return {}
  })

const least = (a: number | null, b: number | null): number | null => (a === null ? b : b === null ? a : Math.min(a, b))

/** The system's codes for arguments that it takes from nobody: the job's own fault, and no other machine takes them. */
const faultsOfTheJob: ReadonlyArray<string> = ["E2BIG", "EINVAL"]

const handle = (error: LlmError): Handled => ({ level: dispositions[error._tag].level, failure: toFailure(error) })

const llmHandlers: Handlers<LlmError> = {
  LlmNotFound: handle,
  LlmExit: handle,
  LlmTimeout: handle,
  // A quota that is used up until a time refuses every job until then.
  LlmRateLimited: (error) =>
    error.kind === "quota" && error.retryAfterMillis !== undefined
      ? { ...handle(error), refused: true, holdMillis: error.retryAfterMillis, evidence: error.evidence }
      : handle(error),
  LlmOverloaded: handle,
  LlmAuth: handle,
  LlmOutputTooLarge: handle,
  LlmOutputTruncated: handle,
  LlmSpawn: (error) => ({ ...handle(error), refused: !faultsOfTheJob.includes(error.code) }),
  BudgetExceeded: handle,
}
