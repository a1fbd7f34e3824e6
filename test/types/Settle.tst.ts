import { Data, Effect } from "effect"
import { describe, expect, test } from "tstyche"
import type { JobId, Output } from "../../src/Job.js"
import { type CurrentAttempt, fork, type Handled, type Queued, type Settled, settle } from "../../src/Offload.js"

class TooHot extends Data.TaggedError("TooHot")<{ readonly degrees: number }> {}
class TooCold extends Data.TaggedError("TooCold")<{ readonly degrees: number }> {}

declare const job: Queued
declare const work: Effect.Effect<Output, TooHot | TooCold, CurrentAttempt>
declare const untagged: Effect.Effect<Output, Error>
declare const unknown: Effect.Effect<Output, unknown>
declare const handled: Handled

describe("settle", () => {
  test("takes a handler for each error of the work", () => {
    const settled = settle(job, work, {
      TooHot: ({ degrees }) => (degrees > 0 ? handled : handled),
      TooCold: () => handled,
    })
    expect(settled).type.toBeAssignableTo<Effect.Effect<void, never, unknown>>()
  })

  test("names the errors that nothing handles", () => {
    expect(settle(job, work, { TooHot: () => handled })).type.toRaiseError("TooCold")
    expect(settle(job, work, {})).type.toRaiseError("TooHot, TooCold")
  })

  test("refuses errors without a tag", () => {
    expect(settle(job, untagged, {})).type.toRaiseError("not assignable")
    expect(settle(job, unknown, {})).type.toRaiseError()
  })

  test("refuses a handler that decides nothing", () => {
    expect(settle(job, work, { TooHot: () => {}, TooCold: () => handled })).type.toRaiseError()
  })

  test("gives the work its attempt, and asks for whatever else the work needs", () => {
    const settled = settle(job, work, { TooHot: () => handled, TooCold: () => handled })
    expect<Extract<Effect.Effect.Context<typeof settled>, CurrentAttempt>>().type.toBe<never>()
  })
})

describe("fork", () => {
  test("takes what settle made", () => {
    const settled = settle(job, work, { TooHot: () => handled, TooCold: () => handled })
    expect(fork(settled)).type.not.toRaiseError()
  })

  test("takes no effect that can fail, and names what nothing handles", () => {
    expect(fork(work)).type.toRaiseError("nothing handles TooCold")
    expect(fork(work)).type.toRaiseError("nothing handles TooHot")
    expect(fork(untagged)).type.toRaiseError("an error without a tag")
  })

  test("takes no effect that only hides its failures", () => {
    expect(fork(Effect.orDie(work))).type.toRaiseError("hides its failures")
    expect(fork(Effect.ignore(work))).type.toRaiseError("hides its failures")
    expect(fork(Effect.void)).type.toRaiseError("hides its failures")
  })

  test("takes no settled effect that something was done to", () => {
    const settled = settle(job, work, { TooHot: () => handled, TooCold: () => handled })
    expect(fork(Effect.asVoid(settled))).type.toRaiseError("hides its failures")
    expect(fork(Effect.zipRight(settled, work))).type.toRaiseError("nothing handles")
  })

  test("takes nothing that was made to look like it", () => {
    expect(fork({ ...Effect.void, "effect-offload/Settled": "Settled" })).type.toRaiseError()
  })
})

test("a settled effect cannot be written by hand", () => {
  expect<Effect.Effect<void>>().type.not.toBeAssignableTo<Settled>()
})

test("a job id is not any string", () => {
  expect<string>().type.not.toBeAssignableTo<JobId>()
})
