import fc from "fast-check"
import { describe, expect, it } from "vitest"
import * as Plausible from "../../src/Job/Plausible.js"

const anyNumber = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.constantFrom(Number.NaN, Infinity, -Infinity, -0, -1, 2 ** 53, 2 ** 53 + 2, 8.64e15, 8.64e15 + 1, 1e308),
)

describe("numbers and times from outside", () => {
  it("counts are whole numbers from 0 to 2^53, and amounts are finite numbers in the same range", () => {
    fc.assert(
      fc.property(anyNumber, (value) => {
        const isAmount = Number.isFinite(value) && value >= 0 && value <= 2 ** 53
        expect(Plausible.amount(value)).toBe(isAmount ? value : undefined)
        expect(Plausible.count(value)).toBe(isAmount && Number.isInteger(value) ? value : undefined)
      }),
    )
    expect(Plausible.usage({ inputTokens: -1, outputTokens: 1.5, costUsd: Infinity })).toEqual({})
    expect(Plausible.usage({ inputTokens: 3, outputTokens: Number.NaN, costUsd: 0 })).toEqual({
      inputTokens: 3,
      costUsd: 0,
    })
  })

  it("a wait is never longer than 24 hours, never negative, and never made of a time that no date has", () => {
    fc.assert(
      fc.property(anyNumber, fc.integer({ min: 0, max: 4e12 }), (value, now) => {
        for (const wait of [Plausible.wait(value), Plausible.waitUntil(value, now)]) {
          if (wait === undefined) continue
          expect(wait).toBeGreaterThanOrEqual(0)
          expect(wait).toBeLessThanOrEqual(24 * 3_600_000)
        }
      }),
    )
    const now = 1_770_000_000_000
    expect(Plausible.waitUntil(8.64e15 + 1, now)).toBe(undefined)
    expect(Plausible.waitUntil(now, now)).toBe(undefined)
    expect(Plausible.waitUntil(now + 90_000_000, now)).toBe(86_400_000)
  })

  it.each([
    [1_770_000_000, 1_770_000_000_000],
    [1_770_000_000_000, 1_770_000_000_000],
    [9_999_999_999_999, 9_999_999_999_999],
    [1e300, undefined],
    [-5, undefined],
    [undefined, undefined],
  ])("a reset at %s is the moment %s, told in seconds or in milliseconds", (told, at) => {
    expect(Plausible.momentOf(told)).toBe(at)
  })

  it("every number can be written as a time of RFC 3339", () => {
    fc.assert(
      fc.property(anyNumber, (at) => {
        expect(Plausible.toIso(at)).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      }),
    )
    expect(Plausible.toIso(1_770_000_000_000)).toBe("2026-02-02T02:40:00.000Z")
  })
})
