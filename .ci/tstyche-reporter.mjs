/** Writes the counts of tstyche's run to `$TEST_REPORTS/tstyche.json`; does nothing where that is not set. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"

export default class {
  on([event, payload]) {
    if (event !== "run:end" || !process.env.TEST_REPORTS) return
    const { fileCount, testCount } = payload.result
    writeFileSync(join(process.env.TEST_REPORTS, "tstyche.json"), JSON.stringify({ fileCount, testCount }))
  }
}
