/**
 * Prints how many tests passed, as the last line of `.ci/run`. Its arguments: the folder with the reports of vitest and
 * tstyche, and the exit status of the check. Exits with 1 if anything failed, or if no test ran.
 */
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"

const [reports, status] = process.argv.slice(2)
const total = { passed: 0, failed: 0, skipped: 0 }

const report = (name) => {
  const file = join(reports, `${name}.json`)
  if (existsSync(file)) return JSON.parse(readFileSync(file, "utf8"))
  console.log(`${name} did not run to its end.`)
  return undefined
}

const add = (passed, failed, skipped) => {
  total.passed += passed
  total.failed += failed
  total.skipped += skipped
}

const vitest = report("vitest")
if (vitest !== undefined) {
  // A file that does not load has no test that could fail: it counts as one.
  const unloaded = vitest.testResults.filter(
    (file) => file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed"),
  )
  add(vitest.numPassedTests, vitest.numFailedTests + unloaded.length, vitest.numPendingTests + vitest.numTodoTests)
}

const tstyche = report("tstyche")
if (tstyche !== undefined) {
  const { fileCount, testCount } = tstyche
  add(testCount.passed, testCount.failed || fileCount.failed, testCount.skipped + testCount.todo)
}

if (total.failed === 0 && (status !== "0" || total.passed === 0)) {
  console.log("Something beside the tests failed (the first failure above says what); it counts as one.")
  total.failed = 1
}

const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : ""
console.log(`${total.passed} passed, ${total.failed} failed${skipped}`)
process.exitCode = total.failed > 0 ? 1 : 0
