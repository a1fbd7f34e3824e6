/** Submissions for the tests of stores. */

import type { NewJob } from "../../src/Job/Transition.js"
import { makeId, type Piece } from "../../src/Job.js"

export const submission = (fields: Partial<NewJob> = {}): NewJob => ({
  id: makeId(0),
  resource: "llm",
  caller: "ada",
  input: { prompt: "Say hello." },
  metadata: {},
  maxAttempts: 3,
  timeoutMillis: 60_000,
  maxCostUsd: null,
  deadlineMillis: null,
  webhook: null,
  idempotency: null,
  ...fields,
})

/** A failure that another attempt could cure. */
export const failure = { tag: "LlmExit", title: "Command failed", detail: "It exited with code 1.", retryable: true }

export const succeeded = { _tag: "Succeeded", output: { usage: { outputTokens: 2 } } } as const

export const piece = (text: string, at = 0): Piece => ({ at, text })

export const roomy = { maxQueued: 1_000_000 }
