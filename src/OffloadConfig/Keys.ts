/**
 * Who may call the service: the callers of `OFFLOAD_API_KEYS`, each with its keys. A key itself is not kept.
 */
import { createHash } from "node:crypto"
import { type ConfigError, Either, Schema } from "effect"
import { ResourceName } from "../Job.js"
import { parseJsonSetting } from "./JsonSetting.js"

/** What is kept of a key. */
export const digestOf = (key: string): Buffer => createHash("sha256").update(key).digest()

/** The key, or `sha256:` and its SHA-256 in hexadecimal. */
const Key = Schema.String.pipe(
  Schema.filter(
    (key) => /^sha256:[0-9a-f]{64}$/i.test(key) || (!key.startsWith("sha256:") && /^[\x21-\x7e]{16,}$/.test(key)),
    {
      message: () =>
        "a key has at least 16 characters of ASCII without blanks, or is sha256: and 64 hexadecimal digits",
    },
  ),
)

const CallerSettings = Schema.Struct({
  /** Several at once, so that a key can be replaced while the old one is still in use. */
  keys: Schema.NonEmptyArray(Key),
  /** Whether it may change resources and read metrics. */
  admin: Schema.optionalWith(Schema.Boolean, { default: () => false }),
})

const All = Schema.Record({ key: ResourceName, value: CallerSettings })

/** Whoever owns jobs. */
export interface KnownCaller {
  readonly name: string
  readonly isAdmin: boolean
  /** The SHA-256 of each of its keys. */
  readonly digests: ReadonlyArray<Buffer>
}

/** The callers that `text` names, a JSON object or the path of a file with one; none where it is empty. */
export const resolve = (text: string): Either.Either<ReadonlyArray<KnownCaller>, ConfigError.ConfigError> =>
  text.trim() === ""
    ? Either.right([])
    : Either.map(parseJsonSetting("OFFLOAD_API_KEYS", All)(text), (all) =>
        Object.entries(all).map(([name, { admin, keys }]) => ({
          name,
          isAdmin: admin,
          digests: keys.map((key) =>
            key.startsWith("sha256:") ? Buffer.from(key.slice("sha256:".length), "hex") : digestOf(key),
          ),
        })),
      )
