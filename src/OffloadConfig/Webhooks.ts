/** The shapes of the settings for webhooks. */
import { isIP } from "node:net"
import { Schema } from "effect"

/** `whsec_` and 24 to 64 bytes of base64, as Standard Webhooks has it. */
const Secret = Schema.String.pipe(
  Schema.filter((text) => {
    const base64 = text.slice("whsec_".length)
    const bytes = Buffer.from(base64, "base64")
    return text.startsWith("whsec_") && bytes.length >= 24 && bytes.length <= 64 && bytes.toString("base64") === base64
  }),
)

/** Secrets with blanks between them: each signs, so that receivers can change from one to the next. */
export const Secrets = Schema.transform(Schema.String, Schema.Array(Schema.Redacted(Secret)), {
  strict: true,
  decode: (text) => text.split(/\s+/).filter((secret) => secret !== ""),
  encode: (secrets) => secrets.join(" "),
})

/** `10.0.0.0/8`, `::1` or `hooks.example.internal`. */
export const AllowedHost = Schema.String.pipe(
  Schema.filter((text) => {
    const [address = "", prefix, ...more] = text.split("/")
    const bits = address.includes("%") ? 0 : ({ 4: 32, 6: 128 }[isIP(address)] ?? 0)
    if (bits > 0) {
      return more.length === 0 && (prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= bits))
    }
    // What ends in a number is an address to a URL, however odd it looks, and is no name.
    return /^(?!(.*\.)?(\d+|0x[\da-f]*)$)[a-z\d_-]+(\.[a-z\d_-]+)*$/i.test(text) && text.length <= 253
  }),
)

/** `9.9.9.9`, `9.9.9.9:53`, `::1` or `[::1]:53`. */
export const NameServer = Schema.String.pipe(
  Schema.filter((text) => {
    const [, bracketed, plain = text, port = "53"] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(text) ?? []
    const address = bracketed ?? plain
    return isIP(address) !== 0 && !address.includes("%") && Number(port) > 0 && Number(port) < 65_536
  }),
)

const Millis = Schema.transform(
  Schema.compose(Schema.NumberFromString, Schema.Number.pipe(Schema.between(0, 604_800))),
  Schema.Number,
  { strict: true, decode: (seconds) => Math.round(seconds * 1000), encode: (millis) => millis / 1000 },
)

/** Seconds with commas between them, kept in milliseconds: the wait before each further attempt. */
export const Waits = Schema.transform(
  Schema.String,
  Schema.Array(Millis).pipe(Schema.minItems(1), Schema.maxItems(50)),
  { strict: true, decode: (text) => text.split(",").map((wait) => wait.trim()), encode: (waits) => waits.join(",") },
)
