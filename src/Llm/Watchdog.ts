/**
 * Ends the attempts of this process when it is itself held up: stopped, or starved, for longer than the others wait
 * before they take it for dead. A child does not stop with its parent, so that something beside the two has to see to
 * it: `watchdog-process.ts`.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { Effect, Queue, type Scope } from "effect"
import { program } from "./Program.js"
import { makeTail } from "./Transcript.js"

/** Beats in the time of silence that is allowed. */
const beats = 10

/** How long an answer may take, in milliseconds: a pipe and a process that does nothing else. */
const answerMillis = 2000

/** How much of its complaints is kept for the log. */
const stderrBytes = 2048

export interface Watchdog {
  /**
   * Whether the watchdog has killed processes of this service's attempts since a time of `process.hrtime.bigint()`.
   * `false` also where it cannot say: it has ended, or does not answer within 2 s.
   */
  readonly hasKilledSince: (since: bigint) => Promise<boolean>
}

/** Of a process that has its store for itself: nobody else begins its attempts, and nothing is to be killed. */
export const none: Watchdog = { hasKilledSince: async () => false }

const begin = (owner: string, silenceMillis: number): ChildProcess => {
  const child = spawn(process.execPath, [program("watchdog-process.js"), owner, String(silenceMillis)], {
    // A session of its own: what stops or ends the service from a terminal does not reach it.
    detached: true,
    stdio: ["pipe", "pipe", "pipe"],
    env: {},
  })
  // Told by `close`, which follows.
  child.stdin?.on("error", () => {})
  child.on("error", () => {})
  child.unref()
  return child
}

/** What the watchdog has told. Its lines come in the order of what happened: an answer after all that was before. */
const makeReports = (onKilled: (count: number) => void) => {
  const waiting = new Map<string, () => void>()
  let isKilling = false
  let killedAt: bigint | null = null
  return {
    read: (line: string): void => {
      const [what, first = "", second = ""] = line.split(" ")
      if (what === "killing") isKilling = true
      else if (what === "killed") {
        isKilling = false
        if (first === "0") return
        killedAt = BigInt(second)
        onKilled(Number(first))
      } else if (what === "answer") waiting.get(first)?.()
    },
    /** One that has ended finishes nothing, and answers nobody. */
    end: (): void => {
      isKilling = false
      for (const resolve of waiting.values()) resolve()
    },
    answered: (question: string): Promise<void> =>
      new Promise((resolve) => {
        const done = () => {
          clearTimeout(timer)
          waiting.delete(question)
          resolve()
        }
        const timer = setTimeout(done, answerMillis)
        waiting.set(question, done)
      }),
    hasKilledSince: (since: bigint): boolean => isKilling || (killedAt !== null && killedAt >= since),
  }
}

/** Watches for as long as the scope lasts. `owner`: whose attempts they are, as `Marker.identify` says. */
export const watch = (owner: string, silenceMillis: number): Effect.Effect<Watchdog, never, Scope.Scope> =>
  Effect.gen(function* () {
    const events = yield* Queue.unbounded<Effect.Effect<void>>()
    let child: ChildProcess
    let ending = false
    let questions = 0
    const reports = makeReports((killed) =>
      events.unsafeOffer(
        Effect.logError(
          "this process was held up for too long: the watchdog killed the processes of its attempts, which are interrupted",
        ).pipe(Effect.annotateLogs({ killed, silenceMillis })),
      ),
    )

    const start = (): void => {
      child = begin(owner, silenceMillis)
      const stderr = makeTail(stderrBytes)
      child.stderr?.on("data", stderr.push)
      if (child.stdout !== null) createInterface({ input: child.stdout }).on("line", reports.read)
      child.once("close", (code, signal) => {
        reports.end()
        if (ending) return
        events.unsafeOffer(
          Effect.logError("the watchdog ended, and is started again").pipe(
            Effect.annotateLogs({ code, signal, stderr: stderr.text() }),
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

    return {
      hasKilledSince: async (since) => {
        const question = String(++questions)
        child.stdin?.write(`${question}\n`)
        await reports.answered(question)
        return reports.hasKilledSince(since)
      },
    } satisfies Watchdog
  }).pipe(Effect.annotateLogs({ module: "Llm" }))
