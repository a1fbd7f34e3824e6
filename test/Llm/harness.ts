/**
 * Real commands behind the real layer, and ways to see what they leave behind.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, Either, Fiber, Layer, Logger, LogLevel } from "effect"
import type { Ending, Usage } from "../../src/Job.js"
import { isRefusal, type Mode } from "../../src/Llm/Containment.js"
import { make as makeLauncher } from "../../src/Llm/Launcher.js"
import { identify, makeMark } from "../../src/Llm/Marker.js"
import { probe } from "../../src/Llm/Probe.js"
import { pids, realtimeLimit } from "../../src/Llm/Procfs.js"
import { make as makeScratch } from "../../src/Llm/Scratch.js"
import { layer } from "../../src/Llm/Subprocess.js"
import { Llm, type LlmError, type LlmRequest } from "../../src/Llm.js"
import { defaultLimits } from "../../src/OffloadConfig/Resources.js"
import { OffloadConfig } from "../../src/OffloadConfig.js"

/** The service of this machine, found out as the layer does, and its end. */
export const findService = async (demanded: Mode, folder = tmpdir()) => {
  const identity = identify(folder)
  const onLeft = (error: Error) => {
    throw error
  }
  const scratch = makeScratch({ identity, data: folder, hasUsers: false, onLeft })
  const launcher = makeLauncher({ scratch, owner: identity.owner, onLost: () => {} })
  const abilities = await launcher.open()
  if (isRefusal(abilities)) throw new Error(abilities.detail)
  const options = { identity, scratch, hidden: { folders: [], files: [] }, launcher }
  const found = await Effect.runPromise(probe(demanded, options, abilities, { limits: defaultLimits, user: null }))
  const service = Either.isRight(found) ? found.right.service : null
  const close = async () => {
    await launcher.close()
    await service?.cgroups?.close()
    await scratch.close()
  }
  return { service, close }
}

/** The same where it is known that there is one. */
export const openService = async (mode: Mode, folder: string) => {
  const { close, service } = await findService(mode, folder)
  if (service === null) throw new Error(`this machine gives no ${mode}`)
  return { close, service }
}

const first = await findService("namespace")
await first.close()
export const namespaces = first.service !== null

if (!namespaces) console.info("no PID namespaces on this machine: the tests of that containment are skipped")

export const modes: ReadonlyArray<Mode> = namespaces ? ["namespace", "group"] : ["group"]

export const standIn = (name: string): string => fileURLToPath(new URL(`./stand-ins/${name}`, import.meta.url))

/** A folder as `OFFLOAD_DATA`: its own for each test, so that its processes are told from those of others. */
export const makeData = () => {
  const files = mkdtempSync(join(tmpdir(), "llm-test-"))
  const folder = join(files, "data")
  mkdirSync(folder)
  const { installation } = identify(folder)
  const cookie = `OFFLOAD_ATTEMPT=${installation}:`
  const hasCookie = (pid: number): boolean => {
    try {
      return readFileSync(`/proc/${pid}/environ`, "latin1").includes(cookie)
    } catch {
      return false
    }
  }
  /** What all marks of this installation have in common: their highest bits. */
  const common = (mark: bigint): bigint => mark >> 48n
  const own = common(makeMark({ installation, owner: "0.0" }, 0))
  const hasMark = (pid: number): boolean => {
    const mark = realtimeLimit(pid)
    return mark !== null && common(mark) === own
  }
  const root = join(tmpdir(), `offload-${installation}`)
  const folders = () =>
    existsSync(root)
      ? readdirSync(root, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []))
      : []
  return {
    /** As `OFFLOAD_DATA`, which no command sees. */
    folder,
    /** For what a test itself keeps. */
    files,
    /** The processes whose environment says that they belong to an attempt of this folder. */
    processes: () => pids().filter(hasCookie),
    /** Those too that lead sandboxes, or wait in them for a command. */
    all: () => pids().filter((pid) => hasCookie(pid) || hasMark(pid)),
    /** The folders of sandboxes: of attempts, and of those that wait for one. */
    folders,
    /** Removes it, and what a service that was killed could not. */
    remove: () => {
      for (const path of [files, root]) rmSync(path, { recursive: true, force: true })
    },
  }
}

export type Data = ReturnType<typeof makeData>

/** Tries again until it is so; fails after `millis`. */
export const waitUntil = async (holds: () => boolean, millis = 60_000): Promise<void> => {
  const start = Date.now()
  while (!holds()) {
    if (Date.now() - start > millis) throw new Error(`not so after ${millis} ms: ${holds}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** The launchers that this process has started. */
export const launchers = (): ReadonlyArray<number> =>
  pids().filter((pid) => {
    try {
      const [, parent] = /^PPid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? []
      return (
        Number(parent) === process.pid && readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith("offload-launcher")
      )
    } catch {
      return false
    }
  })

/** Whether there is a process of this number, a zombie included. */
export const exists = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Kills them; resolves when this process knows. */
export const killLaunchers = async (): Promise<void> => {
  const found = launchers()
  for (const pid of found) process.kill(pid, "SIGKILL")
  await waitUntil(() => !found.some(exists))
}

export interface Answer {
  readonly text: string
  readonly pieces: ReadonlyArray<string>
  readonly result: { readonly usage?: Usage } | LlmError
  /** What was told of the use, however it ended. */
  readonly usages: ReadonlyArray<Usage>
  readonly ending: Ending | null
  readonly millis: number
}

export interface Calls {
  readonly llm: Llm["Type"]
  /** Runs an attempt to its end, whatever that is. */
  readonly call: (request?: Partial<LlmRequest>) => Promise<Answer>
  /** Starts one; `interrupt` resolves when the interruption has returned, to the milliseconds it took. */
  readonly start: (request?: Partial<LlmRequest>) => {
    readonly text: () => string
    readonly ending: () => Ending | null
    readonly interrupt: () => Promise<number>
    readonly answer: () => Promise<Answer>
  }
}

let attempts = 0

/** Builds the layer, uses it, and lets go of it. */
export const withLlm = <A>(
  settings: NonNullable<Parameters<typeof OffloadConfig.layer>[0]> & { readonly data: string },
  containment: Mode | "auto",
  use: (calls: Calls) => Promise<A>,
): Promise<A> =>
  Effect.flatMap(Llm, (llm) =>
    Effect.promise(() => {
      const start = (request: Partial<LlmRequest> = {}) => {
        const pieces: Array<string> = []
        const usages: Array<Usage> = []
        let ending: Ending | null = null
        const began = Date.now()
        const fiber = Effect.runFork(
          Effect.either(
            llm.run({
              resource: "llm",
              attemptId: `attempt.${++attempts}`,
              input: { prompt: "hello" },
              timeoutMillis: 20_000,
              maxCostUsd: null,
              onText: (text) => pieces.push(text),
              onUsage: (usage) => usages.push(usage),
              onEnding: (told) => {
                ending = told
              },
              ...request,
            }),
          ).pipe(Logger.withMinimumLogLevel(LogLevel.Error)),
        )
        return {
          text: () => pieces.join(""),
          ending: () => ending,
          interrupt: async () => {
            const from = Date.now()
            await Effect.runPromise(Fiber.interrupt(fiber))
            return Date.now() - from
          },
          answer: () =>
            Effect.runPromise(Fiber.await(fiber)).then((exit): Answer => {
              if (exit._tag === "Failure") throw new Error(`no answer: ${exit.cause}`)
              const usage = usages.at(-1)
              const success = usage === undefined ? {} : { usage }
              const result = exit.value._tag === "Right" ? success : exit.value.left
              return { text: pieces.join(""), pieces, result, usages, ending, millis: Date.now() - began }
            }),
        }
      }
      return use({ llm, start, call: (request) => start(request).answer() })
    }),
  ).pipe(
    Effect.provide(
      Layer.provide(layer, OffloadConfig.layer({ llm: "command", killGrace: 500, containment, ...settings })),
    ),
    Logger.withMinimumLogLevel(LogLevel.Error),
    Effect.runPromise,
  )

/** A command of one shell script: what a test says of a command stands in the test. */
export const sh = (script: string, ...args: ReadonlyArray<string>): readonly [string, ...Array<string>] => [
  "/bin/sh",
  "-c",
  script,
  "sh",
  ...args,
]
