import { describe, expect, test } from "tstyche"
import type { Disposition, dispositions, JobError } from "../../src/Job/JobError.js"

describe("dispositions", () => {
  test("has a row for each error, and no other row", () => {
    expect<keyof typeof dispositions>().type.toBe<JobError["_tag"]>()
  })

  test("lacks no error that a table must have", () => {
    type Table = Record<JobError["_tag"], Disposition>
    expect<typeof dispositions>().type.toBeAssignableTo<Table>()
    expect<Omit<typeof dispositions, "Defect">>().type.not.toBeAssignableTo<Table>()
  })
})
