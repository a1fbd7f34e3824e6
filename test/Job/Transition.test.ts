import { Schema } from "effect"
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import * as Transition from "../../src/Job/Transition.js"
import { isTerminal, Job } from "../../src/Job.js"
import { failure, submission } from "../Store/submission.js"

const succeeded: Transition.Outcome = { _tag: "Succeeded", output: {} }
const interrupted: Transition.Outcome = { _tag: "Interrupted" }
const orphaned = (retryAt = 0): Transition.Outcome => ({ _tag: "Orphaned", retryAt })
const failed = (retryAt = 0, retryable = true): Transition.Outcome => ({
  _tag: "Failed",
  failure: { ...failure, retryable },
  retryAt,
})

const must = (job: Job | null): Job => {
  expect(job).not.toBe(null)
  return job as Job
}

const created = (fields: Partial<Transition.NewJob> = {}) => Transition.create(submission(fields), 1, 0)
const running = (fields: Partial<Transition.NewJob> = {}) => must(Transition.claim(created(fields), "demo", 1))

describe("a job", () => {
  it("begins queued, with one event and its deadline", () => {
    expect(created({ deadlineMillis: 5, idempotency: { key: "k", fingerprint: "f" } })).toMatchObject({
      status: "queued",
      attempt: 0,
      events: 1,
      deadlineAt: 5,
      idempotencyKey: "k",
    })
  })

  it("is claimed while queued, with output from there on", () => {
    expect(running()).toMatchObject({ status: "running", attempt: 1, startedAt: 1, events: 2, outputFrom: 2 })
    expect(Transition.claim(running(), "demo", 2)).toBe(null)
  })

  it("is given to its own claim again, and to no other", () => {
    const claimed = must(Transition.claim(created(), "demo", 1, { name: "one" }))
    expect(Transition.claim(claimed, "demo", 2, { name: "one" })).toBe(claimed)
    expect(Transition.claim(claimed, "demo", 2, { name: "two" })).toBe(null)
    expect(Transition.claim(running(), "demo", 2)).toBe(null)
  })

  it("takes what its output does not have yet", () => {
    const job = running()
    const append = (job: Job, at: number, text: string) => Transition.append(job, 1, { at, text })
    const { job: three } = append(job, 0, "abc") ?? { job }
    expect(three).toEqual({ ...job, events: 3, outputEnd: 3 })
    expect(append(three, 0, "abc")).toEqual({ job: three, text: "" })
    expect(append(three, 1, "b")).toEqual({ job: three, text: "" })
    expect(append(three, 7, "")).toEqual({ job: three, text: "" })
    expect(append(three, 0, "abcde")).toEqual({ job: { ...three, events: 4, outputEnd: 5 }, text: "de" })
    expect(append(three, 7, "h")).toEqual({ job: { ...three, events: 4, outputEnd: 8 }, text: "h" })
    expect(Transition.append(three, 2, { at: 3, text: "d" })).toBe(null)
    expect(must(Transition.claim(must(Transition.settle(three, 1, interrupted, 9)), "demo", 9)).outputEnd).toBe(0)
  })

  it("is not claimed at its deadline, but expires then and not before", () => {
    const job = created({ deadlineMillis: 5 })
    expect(Transition.claim(job, "demo", 4)).not.toBe(null)
    expect(Transition.claim(job, "demo", 5)).toBe(null)
    expect(Transition.expire(job, 4)).toBe(null)
    expect(Transition.expire(job, 5)).toMatchObject({ status: "failed", error: { tag: "Expired" }, finishedAt: 5 })
    expect(Transition.expire(created(), 5)).toBe(null)
    expect(Transition.expire(running({ deadlineMillis: 5 }), 5)).toBe(null)
  })

  it("succeeds, with what its attempt used", () => {
    const output = { usage: { costUsd: 1 }, truncated: true }
    expect(Transition.settle(running(), 1, { _tag: "Succeeded", output }, 9)).toMatchObject({
      status: "succeeded",
      usage: { costUsd: 1 },
      truncated: true,
      finishedAt: 9,
      events: 3,
      attempts: [{ outcome: "succeeded", finishedAt: 9 }],
    })
  })

  it("is settled by its live attempt alone", () => {
    expect(Transition.settle(running(), 2, succeeded, 9)).toBe(null)
    expect(Transition.settle(created(), 0, succeeded, 9)).toBe(null)
    expect(Transition.settle(must(Transition.settle(running(), 1, succeeded, 9)), 1, succeeded, 9)).toBe(null)
  })

  it("is queued again after a failure, until its attempts are used up", () => {
    const once = must(Transition.settle(running({ maxAttempts: 2 }), 1, failed(50), 9))
    expect(once).toMatchObject({ status: "queued", retryAt: 50, error: failure })
    expect(Transition.ready(once, 49)).toBe(null)
    const ready = must(Transition.ready(once, 50))
    expect(ready).toEqual({ ...once, retryAt: null })
    expect(Transition.ready(ready, 50)).toBe(null)
    const twice = Transition.settle(must(Transition.claim(ready, "demo", 50)), 2, failed(), 60)
    expect(twice).toMatchObject({ status: "failed", error: failure, finishedAt: 60 })
  })

  it("fails at once where a retry is useless or too late", () => {
    expect(Transition.settle(running(), 1, failed(0, false), 9)?.status).toBe("failed")
    expect(Transition.settle(running({ deadlineMillis: 50 }), 1, failed(50), 9)?.status).toBe("failed")
    expect(Transition.settle(running({ deadlineMillis: 50 }), 1, failed(49), 9)?.status).toBe("queued")
  })

  it("goes back to the queue by a drain, at no cost", () => {
    let job = created({ maxAttempts: 1 })
    for (let n = 1; n <= 5; n++) {
      job = must(Transition.settle(must(Transition.claim(job, "demo", n)), n, interrupted, n))
      expect(job).toMatchObject({ status: "queued", retryAt: null, attempt: n })
      expect(Transition.failedAttempts(job)).toBe(0)
    }
  })

  it("is cancelled at once while queued, and by its attempt's end while running", () => {
    expect(Transition.cancel(created(), 7)).toMatchObject({ status: "cancelled", finishedAt: 7, events: 2 })
    const asked = must(Transition.cancel(running(), 7))
    expect(asked).toMatchObject({ status: "running", cancelRequestedAt: 7, events: 2 })
    expect(Transition.cancel(asked, 8)).toBe(asked)
    for (const outcome of [interrupted, failed(), { _tag: "Orphaned", retryAt: 0 } as const]) {
      expect(Transition.settle(asked, 1, outcome, 9)).toMatchObject({ status: "cancelled", finishedAt: 9 })
    }
    expect(Transition.settle(asked, 1, succeeded, 9)?.status).toBe("succeeded")
  })
})

describe("a job that waits", () => {
  const ended = (outcome: Transition.Outcome) => must(Transition.settle(running(), 1, outcome, 2))
  const asked = { ...failure, retryAfterMillis: 50 }

  it("is released where it was refused or told to wait, and not from a backoff of its own", () => {
    for (const outcome of [
      { _tag: "Refused", failure, retryAt: 50 },
      { _tag: "Failed", failure: asked, retryAt: 50 },
    ] as const) {
      expect(Transition.release(ended(outcome))).toMatchObject({ status: "queued", retryAt: null })
    }
    expect(Transition.release(ended(failed(50)))).toBe(null)
    expect(Transition.release(created())).toBe(null)
    expect(Transition.release(running())).toBe(null)
  })

  it("has spent what its attempts cost, of which none can cost less than nothing", () => {
    const costs = [0.5, -3, Number.NaN, Number.POSITIVE_INFINITY, 0.25]
    const attempts = costs.flatMap((costUsd) =>
      running().attempts.map((attempt) => ({ ...attempt, usage: { costUsd } })),
    )
    expect(Transition.spentUsd({ ...running(), attempts })).toBe(0.75)
  })
})

type Step = { readonly name: string; readonly move: (job: Job, now: number) => Job | null }

const outcome: fc.Arbitrary<Transition.Outcome> = fc.oneof(
  fc.constant(succeeded),
  fc.constant(interrupted),
  fc.record({ _tag: fc.constant("Orphaned" as const), retryAt: fc.nat(300) }),
  fc.tuple(fc.nat(300), fc.boolean()).map(([retryAt, retryable]) => failed(retryAt, retryable)),
)

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .boolean()
      .map((alone): Step => ({ name: "claim", move: (job, now) => Transition.claim(job, "demo", now, { alone }) })),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(outcome, fc.constantFrom(0, 0, 0, 1)).map(
      ([outcome, behind]): Step => ({
        name: `settle ${outcome._tag} -${behind}`,
        move: (job, now) => Transition.settle(job, job.attempt - behind, outcome, now),
      }),
    ),
  },
  fc.constant<Step>({ name: "cancel", move: Transition.cancel }),
  fc.constant<Step>({ name: "expire", move: Transition.expire }),
  fc.constant<Step>({ name: "release", move: Transition.release }),
  fc.constant<Step>({ name: "ready", move: Transition.ready }),
)

const life = fc.record({
  maxAttempts: fc.integer({ min: 1, max: 4 }),
  deadlineMillis: fc.option(fc.nat(200)),
  steps: fc.array(fc.tuple(step, fc.nat(20)), { maxLength: 40 }),
})

describe("an attempt that was refused", () => {
  const refuse = (job: Job, now: number) => {
    const running = Transition.claim(Transition.ready(job, now) ?? job, "demo", now)
    return running && Transition.settle(running, running.attempt, { _tag: "Refused", failure, retryAt: now }, now)
  }

  it("does not count, but so many of them fail the job", () => {
    let job: Job | null = created({ maxAttempts: 1 })
    for (let now = 1; now < Transition.maxRefused; now++) job = job && refuse(job, now)
    expect(job).toMatchObject({ status: "queued", attempt: Transition.maxRefused - 1 })
    expect(job && Transition.failedAttempts(job)).toBe(0)
    expect(job && refuse(job, 1000)).toMatchObject({ status: "failed", error: failure })
  })
})

describe("a job whose service dies", () => {
  const claimed = (job: Job, alone: boolean) =>
    must(Transition.claim(must(Transition.ready(job, 0) ?? job), "demo", 0, { alone }))
  /** Dies in this many attempts, each of them alone where it must be. */
  const diedIn = (deaths: number, job = created({ maxAttempts: 1 })): Job =>
    deaths === 0 ? job : must(Transition.settle(claimed(diedIn(deaths - 1, job), true), deaths, orphaned(), 0))

  it("uses up no attempt, with maxAttempts 1 too", () => {
    expect(diedIn(1)).toMatchObject({ status: "queued", error: { tag: "Orphaned", retryable: true } })
    expect(Transition.failedAttempts(diedIn(2))).toBe(0)
    const failedAfterwards = Transition.settle(claimed(diedIn(2), true), 3, failed(), 9)
    expect(failedAfterwards).toMatchObject({ status: "failed", error: failure })
  })

  it("is begun beside others after one death, and alone after two", () => {
    expect(claimed(diedIn(1), false).attempts.at(-1)).not.toHaveProperty("alone")
    expect(Transition.isSuspect(diedIn(1))).toBe(false)
    const suspect = must(Transition.ready(diedIn(2), 0))
    expect(Transition.isSuspect(suspect)).toBe(true)
    expect(Transition.claim(suspect, "demo", 0)).toBe(null)
    expect(Transition.claim(suspect, "demo", 0, { alone: true })?.attempts.at(-1)).toMatchObject({ alone: true })
  })

  it("fails with its third death, in which it ran alone, and the error says so", () => {
    const job = diedIn(3)
    expect(job).toMatchObject({
      status: "failed",
      error: { tag: "Orphaned", retryable: false, detail: expect.stringContaining("alone") },
    })
    expect(job.attempts.map(({ outcome }) => outcome)).toEqual(["orphaned", "orphaned", "orphaned"])
  })

  it("is not blamed for a third death in which others ran too, as the version before began it", () => {
    const before = must(Transition.settle(claimed(diedIn(1), false), 2, orphaned(), 0))
    const beside = {
      ...claimed(before, true),
      attempts: claimed(before, true).attempts.map(({ alone: _, ...rest }) => rest),
    }
    expect(Transition.settle(beside, 3, orphaned(), 9)).toMatchObject({ status: "queued" })
  })

  it("is cancelled by a death where a cancel was asked for, alone or not", () => {
    const asked = must(Transition.cancel(claimed(diedIn(2), true), 0))
    expect(Transition.settle(asked, 3, orphaned(), 9)).toMatchObject({ status: "cancelled" })
  })
})

describe("a job that is interrupted", () => {
  it("waits until the time that the outcome says, and counts the interruptions in a row", () => {
    let job = created({ maxAttempts: 1 })
    const interrupt = (retryAt?: number) => {
      const running = must(Transition.claim(must(Transition.ready(job, 9) ?? job), "demo", 9, { alone: true }))
      job = must(Transition.settle(running, running.attempt, { _tag: "Interrupted", retryAt }, 9))
    }
    interrupt()
    expect(job).toMatchObject({ status: "queued", retryAt: null, error: null })
    expect(Transition.interruptedInARow(job)).toBe(1)
    interrupt(9)
    expect(job).toMatchObject({ status: "queued", retryAt: 9, error: null })
    expect(Transition.interruptedInARow(must(Transition.claim(must(Transition.ready(job, 9)), "demo", 9)))).toBe(2)
    const running = must(Transition.claim(must(Transition.ready(job, 9)), "demo", 9))
    const died = must(Transition.settle(running, 3, orphaned(), 9))
    expect(Transition.interruptedInARow(died)).toBe(0)
    expect(Transition.interruptedInARow(created())).toBe(0)
  })
})

describe("in any life of a job", () => {
  it("terminal states never change, one attempt lives, failures and deaths stay within the limit, interruption is free", () => {
    fc.assert(
      fc.property(life, ({ deadlineMillis, maxAttempts, steps }) => {
        let now = 0
        let job = created({ deadlineMillis, maxAttempts })
        for (const [{ move }, millis] of steps) {
          now += millis
          const next = move(job, now)
          if (isTerminal(job.status)) expect(next).toBe(null)
          if (next === null) continue

          expect(Schema.is(Job)(next)).toBe(true)
          const open = next.attempts.filter((attempt) => attempt.outcome === null)
          expect(open.map(({ attempt }) => attempt)).toEqual(next.status === "running" ? [next.attempt] : [])
          expect(next.attempts.map(({ attempt }) => attempt)).toEqual(next.attempts.map((_, n) => n + 1))
          expect(next.attempts.slice(0, -1)).toEqual(job.attempts.slice(0, next.attempts.length - 1))
          expect(Transition.failedAttempts(next)).toBeLessThanOrEqual(maxAttempts)
          expect(Transition.deaths(next)).toBeLessThanOrEqual(Transition.maxDeaths + 1)
          if (job.status === "queued" && next.status === "running" && Transition.isSuspect(job)) {
            expect(next.attempts.at(-1)?.alone).toBe(true)
          }
          expect(next.events - job.events).toBe(next.status === job.status ? 0 : 1)
          expect(next.finishedAt !== null).toBe(isTerminal(next.status))
          if (next.retryAt !== null) expect(next.status).toBe("queued")
          if (next.attempts.at(-1)?.outcome === "interrupted" && job.status === "running") {
            expect(next.status).toBe("queued")
            expect(Transition.failedAttempts(next)).toBe(Transition.failedAttempts(job))
          }
          job = next
        }
      }),
      { numRuns: 2000 },
    )
  })
})
