/**
 * Where an outcome goes when the process must end before the store took it: one file an attempt, given to the store at
 * the next start. An answer that was paid for is not lost to a store that was down.
 */
import { FileSystem, Path, type Error as PlatformError } from "@effect/platform"
import { Context, Effect, Layer, Schema } from "effect"
import { Outcome } from "../Job/Transition.js"
import { JobId } from "../Job.js"

/** An outcome that no store has taken yet, with the text that is to be stored with it. */
export const Entry = Schema.Struct({
  id: JobId,
  attempt: Schema.Number,
  outcome: Outcome,
  text: Schema.String,
  /** Where the text begins in the attempt's output; the files of before there was such a member hold what is left. */
  at: Schema.optionalWith(Schema.Number, { default: () => 0 }),
})
export type Entry = typeof Entry.Type

/** The spool could not be read or written; `detail` names the file. */
export class SpoolError extends Schema.TaggedError<SpoolError>()("SpoolError", {
  detail: Schema.String,
  cause: Schema.optional(Schema.Defect),
}) {
  override get message(): string {
    return this.detail
  }
}

export class Spool extends Context.Tag("effect-offload/Spool")<
  Spool,
  {
    /** Keeps an outcome; durable before it succeeds. An entry of the same attempt is replaced. */
    readonly save: (entry: Entry) => Effect.Effect<void, SpoolError>
    /**
     * Gives each kept outcome to `take`, and forgets it once that has succeeded. Answers how many. Two
     * processes that replay one spool at a time may both give an outcome to their `take`, which is to change nothing the
     * second time.
     */
    readonly replay: <E, R>(
      take: (entry: Entry) => Effect.Effect<void, E, R>,
    ) => Effect.Effect<number, E | SpoolError, R>
  }
>() {
  /** For a store that keeps nothing either: whatever it is given is reported as lost. */
  static readonly layerNone: Layer.Layer<Spool> = Layer.succeed(Spool, {
    save: () => Effect.fail(new SpoolError({ detail: "This service has no folder to keep outcomes in." })),
    replay: () => Effect.succeed(0),
  })

  /** A folder, made when the first entry comes. */
  static readonly layer = (folder: string): Layer.Layer<Spool, never, FileSystem.FileSystem | Path.Path> =>
    Layer.effect(
      Spool,
      Effect.gen(function* () {
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        const failed = (file: string) => (cause: PlatformError.PlatformError | Error) =>
          new SpoolError({ detail: `The outcome in '${file}' could not be kept or read.`, cause })

        const save = (entry: Entry) => {
          const file = path.join(folder, `${entry.id}.${entry.attempt}.json`)
          return Effect.gen(function* () {
            const json = yield* Schema.encode(Schema.parseJson(Entry))(entry)
            yield* fs.makeDirectory(folder, { recursive: true, mode: 0o700 })
            yield* Effect.scoped(
              Effect.gen(function* () {
                const handle = yield* fs.open(`${file}.part`, { flag: "w", mode: 0o600 })
                yield* handle.writeAll(new TextEncoder().encode(json))
                yield* handle.sync
              }),
            )
            // A half-written entry never has this name.
            yield* fs.rename(`${file}.part`, file)
          }).pipe(Effect.mapError(failed(file)))
        }

        /** `null`: another process has replayed the file, and removed it. */
        const unlessGone = <A>(effect: Effect.Effect<A, PlatformError.PlatformError>, file: string) =>
          effect.pipe(
            Effect.catchAll((error) =>
              error._tag === "SystemError" && error.reason === "NotFound"
                ? Effect.succeed(null)
                : Effect.fail(failed(file)(error)),
            ),
          )

        const read = (file: string) =>
          Effect.flatMap(unlessGone(fs.readFileString(file), file), (json) =>
            json === null
              ? Effect.succeed(null)
              : Effect.mapError(Schema.decode(Schema.parseJson(Entry))(json), failed(file)),
          )

        return {
          save,
          replay: (take) =>
            Effect.gen(function* () {
              if (!(yield* fs.exists(folder).pipe(Effect.mapError(failed(folder))))) return 0
              const names = yield* fs.readDirectory(folder).pipe(Effect.mapError(failed(folder)))
              const files = names.filter((name) => name.endsWith(".json")).map((name) => path.join(folder, name))
              const taken = yield* Effect.forEach(files, (file) =>
                Effect.gen(function* () {
                  const entry = yield* read(file)
                  if (entry === null) return false
                  yield* take(entry)
                  yield* unlessGone(fs.remove(file), file)
                  return true
                }),
              )
              return taken.filter((is) => is).length
            }),
        }
      }),
    )
}
