/** The `Prefer` header (RFC 7240), of which `wait` is understood; other preferences are ignored, as it asks. */

/** The longest wait that is granted, in seconds. */
export const maxWaitSeconds = 60

/** How long the caller would wait, in whole seconds, at most `maxWaitSeconds`; `null` without a valid `wait`. */
export const waitSeconds = (header: string | undefined): number | null => {
  for (const preference of (header ?? "").split(",")) {
    // Parameters after `;` mean nothing for `wait`; the first mention of a preference counts (RFC 7240, section 2).
    const [name = "", value = ""] = (preference.split(";")[0] ?? "").split("=").map((part) => part.trim())
    if (name.toLowerCase() !== "wait") continue
    const digits = /^"?(\d{1,9})"?$/.exec(value)?.[1]
    return digits === undefined ? null : Math.min(Number(digits), maxWaitSeconds)
  }
  return null
}
