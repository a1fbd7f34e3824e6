/**
 * The service as a library: to offload work of your own, to swap a layer, to embed the server in a program. `examples/`
 * has a program for each. A client elsewhere imports `effect-offload/client`, which brings no server along.
 */

// The words of jobs, and every error that can end one.

export * as JobError from "./Job/JobError.js"
export type { Ending, Event, Failure, Input, Job, JobId, Output, Status, Usage } from "./Job.js"

// Saving, settling and forking.

export {
  CurrentAttempt,
  fork,
  type Handled,
  type Handlers,
  IdempotencyConflict,
  JobGone,
  JobNotFound,
  JobNotTerminal,
  MaybeSaved,
  Offload,
  type Queued,
  QueueFull,
  type ResourceState,
  type Settled,
  type Snapshot,
  StoreError,
  StoreFull,
  type Submission,
  SubmissionNotAllowed,
  settle,
  UnknownResource,
  WebhookRefused,
  WebhooksNotConfigured,
} from "./Offload.js"

// One process does the jobs of its store, in `Offload.layer`. Several processes that share a Redis need
// `Offload.layerDispatched(BullMq.layer)`, or each of them has the ceiling for itself.

export * as BullMq from "./Offload/BullMq.js"

// What a job is made of: a call of an LLM (`Worker.layerLlm`), or work of yours.

export { Worker } from "./Offload/Worker.js"

// What calls an LLM: `SubprocessLlm.layer` runs command lines.

export * as SubprocessLlm from "./Llm/Subprocess.js"
export { Llm, type LlmError, type LlmRequest } from "./Llm.js"

// What tells of jobs' ends: `PostWebhook.layer` sends signed requests, `Webhook.layerNone` nothing.

export * as PostWebhook from "./Webhook/Post.js"
export { type Message, Webhook, type WebhookError } from "./Webhook.js"

// Where jobs are kept: `MemoryStore.layer` in the process, `LmdbStore.layer({ path })` in a folder,
// `RedisStore.layer({ url })` in Redis. And where outcomes go that the store did not take: `Spool.layer(path)`, or
// `Spool.layerNone` beside a store in memory.

export { Spool } from "./Offload/Spool.js"
export * as LmdbStore from "./Store/Lmdb.js"
export * as MemoryStore from "./Store/Memory.js"
export * as RedisStore from "./Store/Redis.js"
export { Store } from "./Store.js"

// Every setting: `OffloadConfig.layer({ … })`, or `OffloadConfig.layerFromEnv`.

export { OffloadConfig, type Resource, type Settings } from "./OffloadConfig.js"

// The HTTP server: `Http.layer`, and `Http.url`, where it listens.

export * as Http from "./Http.js"
