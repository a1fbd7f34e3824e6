import * as fc from "fast-check"
import { it } from "vitest"
import type { Script } from "./Process.js"
import { parameters, timeoutMillis, verdict } from "./runs.js"
import { type Story, type Turn, tell } from "./Story.js"

const turn: fc.Arbitrary<Turn> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      turn: fc.constant("submit" as const),
      maxAttempts: fc.integer({ min: 1, max: 3 }),
      script: fc.record({
        pieces: fc.nat(4),
        pauseMillis: fc.constantFrom(1, 30, 400, 3000),
        ends: fc.constantFrom<Script["ends"]>("well", "well", "badly", "for good", "with a bug", "never"),
      }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ turn: fc.constant("cancel" as const), which: fc.nat(9) }) },
  {
    weight: 2,
    arbitrary: fc.record({ turn: fc.constant("outage" as const), millis: fc.constantFrom(500, 3000, 9000) }),
  },
  { weight: 2, arbitrary: fc.record({ turn: fc.constantFrom("kill" as const, "wait" as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({ turn: fc.constant("drain" as const), outageMillis: fc.constantFrom(0, 9000) }),
  },
)

const story: fc.Arbitrary<Story> = fc.record({
  turns: fc.array(fc.record({ after: fc.constantFrom(0, 0, 40, 500, 2500), what: turn }), {
    maxLength: 14,
    size: "max",
  }),
  rate: fc.constantFrom(0, 0.05, 0.3),
  seed: fc.nat(),
})

it(
  "every accepted job ends once with all of its output, and no permit leaks, whatever store and processes do",
  async () => verdict(await fc.check(fc.asyncProperty(story, tell), parameters(60))),
  timeoutMillis,
)
