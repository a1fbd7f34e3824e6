/** A setting that is a JSON object, or the path of a file with one. */
import { readFileSync } from "node:fs"
import { ConfigError, Either, ParseResult, Schema } from "effect"

/** Whether the setting has the object itself, and not the path of a file. */
export const isInline = (text: string): boolean => text.trimStart().startsWith("{")

const read = (setting: string, text: string): Either.Either<string, ConfigError.ConfigError> =>
  isInline(text)
    ? Either.right(text)
    : Either.try({
        try: () => readFileSync(text, "utf8"),
        catch: () => ConfigError.InvalidData([setting], "it is no JSON object, and no file that can be read"),
      })

/** The value of a setting. An error names the member that is wrong; it repeats no value, which may be a secret. */
export const parseJsonSetting = <A, I>(setting: string, schema: Schema.Schema<A, I>) => {
  const decode = Schema.decodeEither(Schema.parseJson(schema), { errors: "all", onExcessProperty: "error" })
  return (text: string): Either.Either<A, ConfigError.ConfigError> =>
    Either.flatMap(read(setting, text), (json) =>
      Either.mapLeft(decode(json), (error) =>
        ConfigError.InvalidData(
          [setting],
          ParseResult.ArrayFormatter.formatErrorSync(error)
            .map(({ _tag, message, path }) => (_tag === "Transformation" ? "it is not JSON" : say(path, message)))
            .join("; "),
        ),
      ),
    )
}

const say = (path: ReadonlyArray<PropertyKey>, message: string): string =>
  [...path, message.replace(/, actual .*$/s, "")].join(": ")
