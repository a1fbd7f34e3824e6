/**
 * Who may call the service: the callers of `OFFLOAD_API_KEYS`, each with its keys. A key itself is not kept.
 */
import { createHash } from "node:crypto"
import { ConfigError, Either, Schema } from "effect"
import { ResourceName } from "../Job.js"
import { isInline, parseJsonSetting } from "./JsonSetting.js"

/** What is kept of a key. */
export const digestOf = (key: string): Buffer => createHash("sha256").update(key).digest()

/** The digest that stands in place of a key; `null` where there is a key. */
const writtenDigest = (key: string): Buffer | null => {
  const hex = /^sha256:([0-9a-f]{64})$/i.exec(key)?.[1]
  return hex === undefined ? null : Buffer.from(hex, "hex")
}

/** The key, or `sha256:` and its SHA-256 in hexadecimal. */
const Key = Schema.String.pipe(
  Schema.filter((key) => writtenDigest(key) !== null || (!/^sha256:/i.test(key) && /^[\x21-\x7e]{16,}$/.test(key)), {
    message: () => "a key has at least 16 characters of ASCII without blanks, or is sha256: and 64 hexadecimal digits",
  }),
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

const setting = "OFFLOAD_API_KEYS"

const parse = parseJsonSetting(setting, All)

const refuse = (reason: string) => Either.left(ConfigError.InvalidData([setting], reason))

/** What is wrong with the keys, without a key: `null` where each of them is one caller's, once. */
const duplicate = (callers: ReadonlyArray<KnownCaller>): string | null => {
  const owners = new Map<string, string>()
  for (const { digests, name } of callers) {
    for (const digest of digests) {
      const key = digest.toString("hex")
      const owner = owners.get(key)
      if (owner === name) return `'${name}' has the same key twice`
      if (owner !== undefined) return `'${owner}' and '${name}' have the same key`
      owners.set(key, name)
    }
  }
  return null
}

/**
 * The callers that `text` names: a JSON object, or the path of a file with one; none where it is empty. An object
 * without a caller is refused, since it would open the service. A key belongs to one caller, whether it is written as
 * itself or as its digest.
 */
export const resolve = (text: string): Either.Either<ReadonlyArray<KnownCaller>, ConfigError.ConfigError> => {
  if (text.trim() === "") return Either.right([])
  return Either.flatMap(parse(text), (all) => {
    const callers = Object.entries(all).map(([name, { admin, keys }]) => ({
      name,
      isAdmin: admin,
      digests: keys.map((key) => writtenDigest(key) ?? digestOf(key)),
    }))
    if (callers.length === 0) return refuse("it names no caller: unset it to serve without keys")
    const reason = duplicate(callers)
    return reason === null ? Either.right(callers) : refuse(reason)
  })
}

/** The file that the callers come from; `null` where the setting names them itself, or there are none. */
export const fileOf = (text: string): string | null => (text.trim() === "" || isInline(text) ? null : text)
