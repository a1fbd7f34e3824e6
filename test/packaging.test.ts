/** What is said of a stop outside the program agrees with the settings. */
import { readFileSync } from "node:fs"
import { expect, it } from "vitest"
import { settings } from "../src/OffloadConfig.js"

/** What a stop takes after the drain and the grace: the last outcomes, connections, telemetry and the store. */
const marginSeconds = 10

const least =
  Number(settings.drain.documentation.default) + Number(settings.killGrace.documentation.default) + marginSeconds

it.each([
  ["packaging/offload.service", /^TimeoutStopSec=(\d+)$/m],
  ["README.md", /--stop-timeout (\d+)/],
  ["README.md", /stop_grace_period: (\d+)s/],
])("%s gives the service time to drain: %s", (file, pattern) => {
  const text = readFileSync(new URL(`../${file}`, import.meta.url), "utf8")
  expect(Number(pattern.exec(text)?.[1])).toBeGreaterThanOrEqual(least)
})
