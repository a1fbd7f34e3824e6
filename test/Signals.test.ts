import { expect, it } from "vitest"
import { makeSteps } from "../src/Signals.js"

it("the first signal drains, the second hurries, each further one ends the service at once", () => {
  const stepOf = makeSteps()
  expect([0, 1000, 5000, 6000].map(stepOf)).toEqual(["drain", "hurry", "now", "now"])
})

it("signals that come together are one", () => {
  const stepOf = makeSteps()
  expect([50_000, 50_010, 50_999, 51_000, 51_900].map(stepOf)).toEqual(["drain", null, null, "hurry", null])
})
