/**
 * A setting that holds a secret: its text stands in `NAME`, or in the file that `NAME_FILE` names. A file keeps it out
 * of environments, which other processes of the same user can read.
 */
import { readFileSync, statSync } from "node:fs"
import { resolve } from "node:path"
import { Config, ConfigError, Either, Option } from "effect"

/** The setting that names the file of a secret. */
export const fileSettingOf = (name: string): string => `${name}_FILE`

/** The variable with the headers of OpenTelemetry's exporters, and all of its variables that can hold a secret. */
export const telemetryHeaders = "OTEL_EXPORTER_OTLP_HEADERS"
export const telemetrySecrets: ReadonlyArray<string> = [telemetryHeaders]

/** A secret as it was found. */
export interface Found {
  /** `NAME` or `NAME_FILE`, for errors. */
  readonly setting: string
  readonly text: string
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : "it is not readable"

/** The text of a file, without its trailing newline. Refuses a file that cannot be read, or that is empty. */
export const readSecretFile = (setting: string, path: string): Either.Either<string, ConfigError.ConfigError> =>
  Either.flatMap(
    Either.try({
      try: () => readFileSync(path, "utf8").replace(/\r?\n$/, ""),
      catch: (error) => ConfigError.InvalidData([setting], `the file '${path}' cannot be read: ${codeOf(error)}`),
    }),
    (text) =>
      text.trim() === ""
        ? Either.left(ConfigError.InvalidData([setting], `the file '${path}' is empty`))
        : Either.right(text),
  )

/** The two places of a secret. Both at once are refused: one of them would be ignored. */
const places = (name: string) =>
  Config.all({
    text: Config.option(Config.string(name)),
    path: Config.option(Config.string(fileSettingOf(name))),
  }).pipe(
    Config.mapOrFail(({ path, text }) =>
      Option.isSome(path) && Option.isSome(text)
        ? Either.left(ConfigError.InvalidData([fileSettingOf(name)], `${name} is set too: unset one of the two`))
        : Either.right({ path, text }),
    ),
  )

const nothing = Either.right(Option.none<Found>())
const found = (setting: string, text: string) => Option.some<Found>({ setting, text })

/** The text of a secret; none where neither `NAME` nor `NAME_FILE` is set. */
export const secretText = (name: string): Config.Config<Option.Option<Found>> =>
  places(name).pipe(
    Config.mapOrFail(({ path, text }) => {
      if (Option.isSome(text)) return Either.right(found(name, text.value))
      if (Option.isNone(path)) return nothing
      const setting = fileSettingOf(name)
      return Either.map(readSecretFile(setting, path.value), (content) => found(setting, content))
    }),
  )

/**
 * The same of a setting that takes the path of a file, too: that of `NAME_FILE`, checked, in place of its text. A text
 * of blanks is refused: an empty variable must not mean that there is no secret.
 */
export const secretTextOrPath = (name: string): Config.Config<Option.Option<Found>> =>
  places(name).pipe(
    Config.mapOrFail(({ path, text }) => {
      if (Option.isSome(text)) {
        return text.value.trim() === ""
          ? Either.left(ConfigError.InvalidData([name], "it is set, and empty: unset it, or the service would be open"))
          : Either.right(found(name, text.value))
      }
      if (Option.isNone(path)) return nothing
      const setting = fileSettingOf(name)
      return Either.map(readSecretFile(setting, path.value), () => found(setting, resolve(path.value)))
    }),
  )

/** Whether every user of the machine may read a file. */
export const isWorldReadable = (path: string): boolean => {
  try {
    return (statSync(path).mode & 0o004) !== 0
  } catch {
    // It was read before; now it is gone, and nobody reads it.
    return false
  }
}

/** The absolute paths of the files of these secrets. */
export const secretFiles = (names: ReadonlyArray<string>): Config.Config<ReadonlyArray<string>> =>
  Config.map(Config.all(names.map((name) => Config.option(Config.string(fileSettingOf(name))))), (paths) =>
    paths.flatMap((path) => (Option.isSome(path) ? [resolve(path.value)] : [])),
  )
