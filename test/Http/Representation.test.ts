import fc from "fast-check"
import { describe, expect, it } from "vitest"
import * as Representation from "../../src/Http/Representation.js"
import { create } from "../../src/Job/Transition.js"
import { submission } from "../Store/submission.js"

describe("a stored time of any size", () => {
  it("is written, in a job, in a listing and in a resource", () => {
    fc.assert(
      fc.property(fc.oneof(fc.double(), fc.constantFrom(8.64e18, 4e15, -1)), (at) => {
        const job = { ...create(submission(), 1, at), retryAt: at, deadlineAt: at, finishedAt: at }
        const queue = { ahead: null, expectedStartAt: at }
        const input = { prompt: "hello" }
        expect(Representation.jobSummary(job).retryAt).toMatch(/^\d{4}-/)
        expect(Representation.job({ job, input, output: "", queue, delivery: null }).createdAt).toMatch(/^\d{4}-/)
        const resource = { name: "llm", adapter: "demo", command: "demo", permits: 1, running: 0, queued: 0 }
        expect(Representation.resource({ ...resource, serviceMillis: null, heldUntil: at }).heldUntil).toMatch(
          /^\d{4}-/,
        )
      }),
    )
  })
})
