import { describe, expect, it } from "vitest"
import { makeId } from "../../src/Job.js"
import { anonymous, decide, none, type Refusal, type Refusals } from "../../src/Offload/Corroboration.js"

const jobs = new Map(["a", "b", "c"].map((name) => [name, makeId(1)]))

const refusal = (caller: string, job: string, until: number, evidence: Refusal["evidence"] = "text"): Refusal => ({
  evidence,
  until,
  job: { id: jobs.get(job) ?? makeId(1), caller },
})

/** Until when the resource is held after each of these refusals, which were met at these times. */
const holds = (...met: ReadonlyArray<readonly [now: number, refusal: Refusal]>) => {
  let refusals: Refusals = none
  return met.map(([now, each]) => {
    const decision = decide(refusals, each, now)
    refusals = decision.refusals
    return decision.holdUntil
  })
}

describe("a refusal until a time", () => {
  it("holds the resource at once where a field of an event told it", () => {
    expect(holds([0, refusal("alice", "a", 100, "structured")])).toEqual([100])
  })

  it("holds nothing by the words of one caller, in however many of its jobs", () => {
    expect(
      holds([0, refusal("alice", "a", 100)], [1, refusal("alice", "b", 100)], [2, refusal("alice", "a", 200)]),
    ).toEqual([null, null, null])
  })

  it("holds the resource by the words of a second caller, until the earlier of the two times", () => {
    expect(holds([0, refusal("alice", "a", 1000)], [1, refusal("bob", "b", 100)])).toEqual([null, 100])
    expect(holds([0, refusal("alice", "a", 100)], [1, refusal("bob", "b", 1000)])).toEqual([null, 100])
  })

  it("is not borne out by one whose time has passed", () => {
    expect(holds([0, refusal("alice", "a", 100)], [100, refusal("bob", "b", 1000)])).toEqual([null, null])
  })

  it("is borne out by another job where there are no keys, and not by the same one", () => {
    expect(
      holds([0, refusal(anonymous, "a", 100)], [1, refusal(anonymous, "a", 150)], [2, refusal(anonymous, "b", 200)]),
    ).toEqual([null, null, 150])
  })

  it("by a field of an event does not bear out the words of another job later", () => {
    expect(holds([0, refusal("alice", "a", 100, "structured")], [1, refusal("bob", "b", 50)])).toEqual([100, null])
  })

  it("is remembered once a caller, so that memory is bounded", () => {
    let refusals: Refusals = none
    for (let i = 0; i < 100; i++) refusals = decide(refusals, refusal("alice", "a", 1000 + i), i).refusals
    expect(refusals.size).toBe(1)
  })
})
