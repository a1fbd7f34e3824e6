/** Builds `dist` once before the tests, because end-to-end tests run the built program. */
import { spawnSync } from "node:child_process"
import { createRequire } from "node:module"

const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc")

export const setup = () => {
  // `npm test` has just built it. Set it by hand to run tests that do not need `dist`, or while `src` has type errors.
  if (process.env.OFFLOAD_SKIP_BUILD === "1") return
  const run = (...args: ReadonlyArray<string>) => spawnSync(process.execPath, args, { stdio: "inherit" }).status === 0
  if (!run(tsc, "-p", "tsconfig.build.json") || !run("scripts/docs.mjs"))
    throw new Error("src does not compile; OFFLOAD_SKIP_BUILD=1 runs the tests with dist as it is")
}
