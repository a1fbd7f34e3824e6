import { join } from "node:path"
import { defineConfig } from "vitest/config"

/** Where `.ci/run` wants the results in a form that it can count. */
const reports = process.env.TEST_REPORTS

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts", "examples/*.test.ts"],
    globalSetup: ["test/build.ts"],
    // End-to-end tests start real processes and wait for them; a test that hangs must still end. Long enough for a
    // machine that is ten times slower, and longer than what the tests wait for a condition, which says what is amiss.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    expect: { poll: { timeout: 60_000 } },
    // Processes, because tests send signals, change directories and load native modules; two, because the tests
    // start processes of their own and measure time.
    pool: "forks",
    minWorkers: 1,
    maxWorkers: 2,
    reporters: reports ? ["default", ["json", { outputFile: join(reports, "vitest.json") }]] : ["default"],
  },
})
