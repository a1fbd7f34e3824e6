/**
 * One call of a command-line LLM: the contract. `Llm/Subprocess.ts` runs real processes.
 */
import { Context, type Effect } from "effect"
import type { LlmError } from "./Job/JobError.js"
import type { Ending, Input, Usage } from "./Job.js"

export type { LlmError } from "./Job/JobError.js"

/** One attempt's call. */
export interface LlmRequest {
  readonly resource: string
  /** Unique to the attempt; its processes carry it in `OFFLOAD_ATTEMPT`, so that they can be found again. */
  readonly attemptId: string
  readonly input: Input
  /** The longest that the call may take, in milliseconds. */
  readonly timeoutMillis: number
  /** What the call may cost, in US dollars, where its command line tells; `null`: no limit. */
  readonly maxCostUsd: number | null
  /** Takes each piece of the answer as it comes: whole characters, never empty. Must return at once. */
  readonly onText: (text: string) => void
  /** Takes what the call has used so far, whenever that is told anew. */
  readonly onUsage: (usage: Usage) => void
  /** Takes how the processes were ended, once they are gone, if they did not end by themselves. */
  readonly onEnding: (ending: Ending) => void
}

export class Llm extends Context.Tag("effect-offload/Llm")<
  Llm,
  {
    /** The adapter of a resource, such as `claude` or `demo`: what is recorded in each attempt. */
    readonly adapter: (resource: string) => string

    /** The command behind a resource, for the log and `GET /resources`. Never a secret. */
    readonly command: (resource: string) => string

    /**
     * Calls the LLM. Interruption, timeout and every failure end only when the whole process tree is gone: SIGTERM,
     * the grace, SIGKILL. Text and usage that came before a failure have been given to `onText` and `onUsage`.
     */
    readonly run: (request: LlmRequest) => Effect.Effect<void, LlmError>

    /** Why no attempt can begin on this machine now, whatever its resource; `null`, or left out, where one can. */
    readonly trouble?: Effect.Effect<string | null>

    /** Kills every process that an attempt of an earlier run of this service left behind; answers how many. */
    readonly killOrphans: Effect.Effect<number>
  }
>() {}
