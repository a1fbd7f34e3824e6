/** The callers as they are now: those of the settings, until their file is read again. */
import { type ConfigError, Context, Data, Effect, Either, Layer } from "effect"
import { type KnownCaller, OffloadConfig, resolveKeys } from "../OffloadConfig.js"

/** The keys were not read again; those of before are in use. */
export class KeysNotReloaded extends Data.TaggedError("KeysNotReloaded")<{ readonly message: string }> {}

export class Keyring extends Context.Tag("effect-offload/Keyring")<
  Keyring,
  {
    /** Every caller that may call; none: there are no keys, and whoever reaches the service may call. */
    readonly callers: () => ReadonlyArray<KnownCaller>
    /**
     * Reads the file of the keys again; from then on each call needs one of its keys. What is wrong with the file fails
     * it, and leaves the keys as they are. Fails where the keys come from no file.
     */
    readonly reload: Effect.Effect<ReadonlyArray<KnownCaller>, KeysNotReloaded>
  }
>() {
  static readonly layer: Layer.Layer<Keyring, never, OffloadConfig> = Layer.effect(
    Keyring,
    Effect.map(OffloadConfig, ({ callers, keysFile }) => {
      let current = callers
      return {
        callers: () => current,
        reload: Effect.suspend(() => {
          if (keysFile === null) return new KeysNotReloaded({ message: "OFFLOAD_API_KEYS names no file" })
          return Either.match(resolveKeys(keysFile), {
            onLeft: (error) => new KeysNotReloaded({ message: `${keysFile}: ${reasonOf(error)}` }),
            onRight: (found) => {
              current = found
              return Effect.succeed(found)
            },
          })
        }),
      }
    }),
  )
}

const reasonOf = (error: ConfigError.ConfigError): string =>
  "message" in error ? String(error.message) : String(error)
