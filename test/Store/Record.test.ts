import { describe, expect, it } from "vitest"
import { spentUsd } from "../../src/Job/Transition.js"
import { decodeEvent, decodeJob } from "../../src/Store/Record.js"

const id = "job_01KGTXQ3V4M5N6P7Q8R9S0T1V2"

/** A record of a version that took every number that a command line told: JSON has no other word for infinity. */
const record = {
  id,
  sequence: 1,
  resource: "llm",
  caller: "ada",
  status: "queued",
  attempt: 1,
  maxAttempts: 3,
  timeoutMillis: 1000,
  createdAt: 0,
  retryAt: 8.64e18,
  metadata: {},
  error: { tag: "LlmOverloaded", title: "t", detail: "d", retryable: true, retryAfterMillis: null },
  usage: { inputTokens: null, outputTokens: 5, costUsd: -3 },
  truncated: false,
  attempts: [
    {
      attempt: 1,
      adapter: "opencode",
      startedAt: 0,
      finishedAt: 1,
      outcome: "failed",
      cause: { tag: "LlmOverloaded", title: "t", detail: "d", retryable: true, retryAfterMillis: null },
      usage: { inputTokens: null, costUsd: -3 },
      ending: null,
    },
  ],
  events: 3,
  outputFrom: 2,
}

describe("a record with numbers that cannot be true", () => {
  it("is read: a number that was not finite is absent, and a negative cost gives no budget back", () => {
    const job = decodeJob(id, JSON.stringify(record))
    expect(job).toMatchObject({ retryAt: 8.64e18, usage: { outputTokens: 5, costUsd: -3 } })
    expect(job.usage).not.toHaveProperty("inputTokens")
    expect(job.error).not.toHaveProperty("retryAfterMillis")
    expect(spentUsd(job)).toBe(0)
  })

  it("has events that are read", () => {
    const event = { type: "status", event: 3, at: 1, status: "queued", attempt: 1, error: record.error }
    expect(decodeEvent(id, JSON.stringify(event))).toMatchObject({ error: { tag: "LlmOverloaded" } })
  })
})
