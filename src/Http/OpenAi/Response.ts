/** A job as OpenAI's API writes a response. Pure: what it says follows from the job alone. */
import { type Input, isTerminal, type Job } from "../../Job.js"
import type { Snapshot } from "../../Offload.js"

export type ResponseStatus = "queued" | "in_progress" | "completed" | "failed" | "cancelled" | "incomplete"

/** The id of a job as a response: the same ULID behind another prefix. */
export const idOf = (job: Job): string => `resp_${ulidOf(job)}`

/** The id of the job that a response is; it may be none. */
export const jobIdOf = (id: string): string => id.replace(/^resp_/, "job_")

const ulidOf = ({ id }: Job): string => id.slice("job_".length)

/** Failures that left an answer, though not all of it. */
const cutShort: ReadonlyArray<string> = ["LlmOutputTooLarge", "LlmOutputTruncated"]

export const statusOf = ({ error, status, truncated }: Job): ResponseStatus => {
  switch (status) {
    case "queued":
      return "queued"
    case "running":
      return "in_progress"
    case "succeeded":
      return truncated ? "incomplete" : "completed"
    case "failed":
      return error !== null && cutShort.includes(error.tag) ? "incomplete" : "failed"
    case "cancelled":
      return "cancelled"
  }
}

/** The text of an attempt, as one message. */
export const message = (
  job: Job,
  attempt: number,
  status: "in_progress" | "completed" | "incomplete",
  text: string,
) => ({
  id: messageIdOf(job, attempt),
  type: "message" as const,
  role: "assistant" as const,
  status,
  content: [part(text)],
})

export const messageIdOf = (job: Job, attempt: number): string => `msg_${ulidOf(job)}_${attempt}`

export const part = (text: string) => ({ type: "output_text" as const, text, annotations: [], logprobs: [] })

/** A job at the moment at which it was saved, or was first begun: a stream tells both of them afterwards too. */
export const begun = (job: Job, input: Input, status: "queued" | "in_progress") => ({
  ...always(job, input),
  status,
  completed_at: null,
  error: null,
  incomplete_details: null,
  output: [],
  usage: null,
})

/** A job with the text of its newest attempt, as it is now. */
export const current = (job: Job, input: Input, text: string) => {
  const status = statusOf(job)
  return {
    ...always(job, input),
    status,
    completed_at: status === "completed" && job.finishedAt !== null ? seconds(job.finishedAt) : null,
    error: status === "failed" ? failureOf(job) : null,
    incomplete_details: status === "incomplete" ? { reason: "max_output_tokens" } : null,
    output: text === "" ? [] : [message(job, job.attempt, itemStatusOf(job), text)],
    usage: isTerminal(job.status) ? usageOf(job) : null,
  }
}

export const fromSnapshot = ({ input, job, output }: Snapshot) => current(job, input, output)

/** The status of the newest attempt's message. One whose job waits for another attempt will not go on. */
export const itemStatusOf = (job: Job): "in_progress" | "completed" | "incomplete" => {
  const status = statusOf(job)
  return status === "in_progress" || status === "completed" ? status : "incomplete"
}

/** What never changes in the life of a job. */
const always = (job: Job, input: Input) => ({
  id: idOf(job),
  object: "response" as const,
  created_at: seconds(job.createdAt),
  // Every job runs in the background, also where a caller waits for its end.
  background: true,
  instructions: input.system ?? null,
  max_output_tokens: null,
  max_tool_calls: null,
  metadata: job.metadata,
  model: input.model ?? job.resource,
  parallel_tool_calls: true,
  previous_response_id: null,
  reasoning: { effort: null, summary: null },
  service_tier: "default" as const,
  store: true,
  temperature: null,
  text: { format: { type: "text" as const } },
  tool_choice: "auto" as const,
  tools: [],
  top_logprobs: 0,
  top_p: null,
  truncation: "disabled" as const,
  user: null,
})

const seconds = (millis: number): number => Math.floor(millis / 1000)

const failureOf = ({ error }: Job) => ({
  code: error?.tag === "LlmRateLimited" ? "rate_limit_exceeded" : "server_error",
  message: error?.detail ?? "",
})

const usageOf = ({ usage }: Job) =>
  usage?.inputTokens === undefined || usage.outputTokens === undefined
    ? null
    : {
        input_tokens: usage.inputTokens,
        input_tokens_details: { cached_tokens: 0 },
        output_tokens: usage.outputTokens,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: usage.inputTokens + usage.outputTokens,
      }
