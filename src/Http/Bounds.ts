/**
 * How much a request may have of what its length does not bound: looked at before it is decoded, because a schema says of
 * each member what is wrong with it. All of it is far more than any call needs.
 */
import type { ProblemSlug } from "../Api/Problem.js"

/** How deep arrays and objects may be nested. */
export const maxDepth = 64

/** How many values a body may have: members, elements, and what they are in. */
export const maxValues = 10_000

/** How many members an object may have, and how many parameters a query. */
export const maxMembers = 64

/** Why a body is refused, told by its bytes alone: what is nested deeply costs far more to parse than its length says. */
export const sizeOf = (json: Uint8Array): { readonly slug: ProblemSlug; readonly detail: string } | null => {
  let depth = 0
  let values = 1
  let inString = false
  for (let at = 0; at < json.length; at++) {
    const byte = json[at]
    if (inString) {
      if (byte === 0x5c) at++
      else if (byte === 0x22) inString = false
    } else if (byte === 0x22) inString = true
    else if (byte === 0x2c) values++
    else if (byte === 0x5b || byte === 0x7b) {
      values++
      if (++depth > maxDepth) return { slug: "invalid-json", detail: `The body is nested more than ${maxDepth} deep.` }
    } else if (byte === 0x5d || byte === 0x7d) depth--
    if (values > maxValues) return { slug: "invalid-request", detail: `The body has more than ${maxValues} values.` }
  }
  return null
}

/** The JSON pointer of the first object with too many members; `null` where there is none. */
export const excessOf = (value: unknown): string | null => {
  if (typeof value !== "object" || value === null) return null
  const members = Object.entries(value)
  if (!Array.isArray(value) && members.length > maxMembers) return ""
  for (const [name, member] of members) {
    const inner = excessOf(member)
    if (inner !== null) return `/${name}${inner}`
  }
  return null
}
