/** What tells whether two submissions with one idempotency key are the same. */
import { createHash } from "node:crypto"
import type { SubmitJob } from "../Api.js"
import type { Idempotency } from "../Job/Transition.js"

/**
 * JSON in its one canonical form (RFC 8785): no blanks, members by name, numbers and texts as JavaScript writes them.
 * Of a value that was read from JSON; a member that is `undefined` is none.
 */
export const canonical = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`
  if (typeof value !== "object" || value === null) return JSON.stringify(value)
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    // By UTF-16 code units, as the RFC has it.
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(",")}}`
}

const digest = (text: string): string => createHash("sha256").update(text).digest("base64url")

/** The use of a key for a call, such as `POST /jobs`: the same key is not for another call, whatever its body. */
export const idempotencyOf = (key: string, call: string, body: SubmitJob): Idempotency => ({
  key,
  fingerprint: digest(canonical([call, body])),
  earlierFingerprint: () => digest(JSON.stringify({ ...body, metadata: Object.entries(body.metadata).sort() })),
})
