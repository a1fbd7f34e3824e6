import { Schema } from "effect"
import { describe, expect, it } from "vitest"
import { SubmitJob } from "../../src/Api.js"
import { canonical, idempotencyOf } from "../../src/Http/Fingerprint.js"

const decode = Schema.decodeUnknownSync(SubmitJob)

describe("canonical JSON", () => {
  // The examples of RFC 8785, 3.2.2 and 3.2.3.
  it("is that of the RFC", () => {
    const numbers = JSON.parse(String.raw`{
      "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
      "literals": [null, true, false]
    }`)
    expect(canonical(numbers)).toBe(
      String.raw`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
    )
    const names = { "\u20ac": "", "\r": "", "\ufb33": "", "1": "", "\ud83d\ude00": "", "\u0080": "", "\u00f6": "" }
    expect(Object.keys(JSON.parse(canonical(names)) as object)).toHaveLength(7)
    expect(canonical(names).match(/"([^":]+|\\r)":/g)).toEqual(
      ["\\r", "1", "\u0080", "\u00f6", "\u20ac", "\ud83d\ude00", "\ufb33"].map((name) => `"${name}":`),
    )
  })
})

describe("the fingerprint of a submission", () => {
  const body = decode({ prompt: "p", model: "m", metadata: { b: "2", a: "1" }, maxAttempts: 2 })
  const same = decode({ maxAttempts: 2, metadata: { a: "1", b: "2" }, prompt: "p", model: "m" })

  it("is that of the body, in whatever order, and of the call", () => {
    const { fingerprint } = idempotencyOf("k", "POST /jobs", body)
    expect(idempotencyOf("k", "POST /jobs", same).fingerprint).toBe(fingerprint)
    expect(idempotencyOf("k", "POST /v1/responses", same).fingerprint).not.toBe(fingerprint)
    expect(idempotencyOf("k", "POST /jobs", { ...same, prompt: "q" }).fingerprint).not.toBe(fingerprint)
  })

  it("of the version before is known, whichever call it was", () => {
    const before = "hb8_Kybu2jBfIBmKbEGZH55M1Q7UGOxILCydxBoKl7c"
    for (const call of ["POST /jobs", "POST /v1/responses"]) {
      expect(idempotencyOf("k", call, body).earlierFingerprint?.()).toBe(before)
    }
  })
})
