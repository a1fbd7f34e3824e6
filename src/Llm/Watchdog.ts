/**
 * Ends the attempts of this process when it is itself held up: stopped, or starved, for longer than the others wait
 * before they take it for dead. A child does not stop with its parent, so that something beside the two has to see to
 * it: `watchdog-process.ts`.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { Effect, Queue, type Scope } from "effect"
import { program } from "./Program.js"

/** Beats in the time of silence that is allowed. */
const beats = 10

const begin = (owner: string, silenceMillis: number): ChildProcess => {
  const child = spawn(process.execPath, [program("watchdog-process"), owner, String(silenceMillis)], {
    // A session of its own: what stops or ends the service from a terminal does not reach it.
    detached: true,
    stdio: ["pipe", "pipe", "inherit"],
    env: {},
  })
  // Told by `close`, which follows.
  child.stdin?.on("error", () => {})
  child.on("error", () => {})
  child.unref()
  return child
}

/** Watches for as long as the scope lasts. `owner`: whose attempts they are, as `Marker.identify` says. */
export const watch = (owner: string, silenceMillis: number): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const events = yield* Queue.unbounded<Effect.Effect<void>>()
    let child: ChildProcess
    let ending = false

    const start = (): void => {
      child = begin(owner, silenceMillis)
      child.stdout?.on("data", (text: Buffer) =>
        events.unsafeOffer(
          Effect.logError("this process was held up for too long: the processes of its attempts were killed").pipe(
            Effect.annotateLogs({ killed: Number(text.toString().trim().split("\n").at(-1)), silenceMillis }),
          ),
        ),
      )
      child.once("close", (code, signal) => {
        if (ending) return
        events.unsafeOffer(
          Effect.logError("the watchdog ended, and is started again").pipe(
            Effect.annotateLogs({ code, signal }),
            Effect.zipRight(Effect.sleep(1000)),
            Effect.zipRight(Effect.sync(start)),
          ),
        )
      })
    }

    yield* Effect.acquireRelease(
      Effect.sync(() => {
        start()
        return setInterval(() => child.stdin?.write("\n"), silenceMillis / beats).unref()
      }),
      (timer) =>
        Effect.sync(() => {
          ending = true
          clearInterval(timer)
          child.stdin?.end()
        }),
    )
    yield* Effect.forkScoped(Effect.forever(Effect.flatten(Queue.take(events))))
  }).pipe(Effect.annotateLogs({ module: "Llm" }))
