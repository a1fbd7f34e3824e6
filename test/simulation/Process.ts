/** A process of the service: all of `Offload` over a store that fails, with an LLM that does what its prompt says. */
import { Context, Effect, Exit, Layer, Logger, LogLevel, Scope } from "effect"
import { LlmAuth, LlmExit } from "../../src/Job/JobError.js"
import type { LlmRequest } from "../../src/Llm.js"
import { type Entry, Spool } from "../../src/Offload/Spool.js"
import { Offload } from "../../src/Offload.js"
import { Store } from "../../src/Store.js"
import { service } from "../Offload/harness.js"
import * as FaultyStore from "./FaultyStore.js"
import type { VirtualClock } from "./VirtualClock.js"

/** What an attempt does: its pieces of output, the time before each, and how it ends. */
export interface Script {
  readonly pieces: number
  readonly pauseMillis: number
  readonly ends: "well" | "badly" | "for good" | "with a bug" | "never"
}

/** What is known of all attempts, of all processes. */
export interface Attempts {
  /** What each has put out, by the id of the attempt. */
  readonly emitted: Map<string, string>
  /** What the spool was given. */
  readonly spooled: Array<Entry>
  /** The most that ran at once in one process. */
  most: number
}

export const permits = 2

/** Keeps outcomes as a folder does, over the death of processes. */
const spoolOver = (entries: Map<string, Entry>, { spooled }: Attempts): Layer.Layer<Spool> =>
  Layer.succeed(Spool, {
    save: (entry) =>
      Effect.sync(() => {
        spooled.push(entry)
        entries.set(`${entry.id}.${entry.attempt}`, entry)
      }),
    replay: (take) => {
      const all = [...entries]
      const taken = Effect.forEach(all, ([name, entry]) => Effect.map(take(entry), () => entries.delete(name)))
      return Effect.as(taken, all.length)
    },
  })

export interface Process {
  readonly offload: Offload["Type"]
  /** Runs an effect by the process's clock. */
  readonly run: <A, E>(effect: Effect.Effect<A, E>) => Promise<Exit.Exit<A, E>>
  /** As SIGTERM: ends when the drain has. */
  readonly drain: () => Promise<unknown>
  /** As `kill -9`: nothing of it reaches the store any more. */
  readonly kill: () => void
  /** When it is no more: who is connected finds out. */
  readonly gone: Promise<"gone">
}

export const start = async (
  time: VirtualClock,
  store: Store["Type"],
  next: () => FaultyStore.Fault,
  attempts: Attempts,
  entries: Map<string, Entry>,
): Promise<Process> => {
  const { clock, die } = time.process()
  let dead = false
  let left = () => {}
  const gone = new Promise<"gone">((resolve) => {
    left = () => resolve("gone")
  })
  const run = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.runPromiseExit(effect.pipe(Effect.withClock(clock), Logger.withMinimumLogLevel(LogLevel.None)))
  const kill = () => {
    dead = true
    die()
    left()
  }
  const running = new Set<string>()

  const work = ({ attemptId, input, onText }: LlmRequest) =>
    Effect.gen(function* () {
      const script: Script = JSON.parse(input.prompt)
      const [jobId = ""] = attemptId.split(".")
      if (running.has(jobId)) return yield* Effect.dieMessage(`two attempts of ${jobId} at once`)
      running.add(jobId)
      attempts.most = Math.max(attempts.most, running.size)
      attempts.emitted.set(attemptId, "")
      for (let n = 0; n < script.pieces; n++) {
        yield* Effect.sleep(script.pauseMillis)
        const text = `${attemptId}:${n};`
        attempts.emitted.set(attemptId, attempts.emitted.get(attemptId) + text)
        onText(text)
      }
      if (script.ends === "badly") {
        return yield* new LlmExit({ command: "scripted", exitCode: 1, signal: null, stderr: "" })
      }
      if (script.ends === "for good") return yield* new LlmAuth({ command: "scripted", stderr: "" })
      if (script.ends === "with a bug") return yield* Effect.dieMessage("a bug")
      if (script.ends === "never") return yield* Effect.never
    }).pipe(Effect.ensuring(Effect.sync(() => running.delete(attemptId.split(".")[0] ?? ""))))

  const faulty = FaultyStore.make(store, { next: () => (dead ? "dead" : next()) })
  const layer = service(
    work,
    { permits, retryBase: 100, retryMax: 1000, drain: 1000, killGrace: 500 },
    Layer.succeed(Store, faulty),
    spoolOver(entries, attempts),
  )

  const scope = await Effect.runPromise(Scope.make())
  for (;;) {
    // A start that fails is made again, as its supervisor does.
    const built = await run(Layer.buildWithScope(layer, scope))
    if (Exit.isSuccess(built)) {
      return {
        offload: Context.get(built.value, Offload),
        run,
        gone,
        drain: () => run(Scope.close(scope, Exit.void)).finally(kill),
        kill,
      }
    }
  }
}
