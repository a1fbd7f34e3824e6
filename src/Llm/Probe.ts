/** Finds out how the processes of an attempt can be held together on this machine, by doing it. */
import { release } from "node:os"
import { Effect, Either } from "effect"
import { open as openCgroups } from "./Cgroup.js"
import type { Argv, Mode } from "./Containment.js"
import type { Abilities, Launcher } from "./Launcher.js"
import type { Identity } from "./Marker.js"
import { make as makeTree } from "./ProcessTree.js"
import { tasksOf } from "./Procfs.js"
import { type Profile, type Service, start } from "./Sandbox.js"
import type { Scratch } from "./Scratch.js"
import { makeTail } from "./Transcript.js"

/** The longest that one trial may take. */
const trialMillis = 5000

/** How much of its output is kept: its end. */
const tailBytes = 4096

/** Ends with 7 after a SIGTERM to its group: with anything else where a signal ends more than the command. */
const trial: Argv = ["/bin/sh", "-c", "trap 'exit 7' TERM; kill -TERM 0; exit 8"]

/** Whether a command can run in a sandbox of this kind; else why it cannot. */
export const attempt = (service: Service, profile: Profile): Effect.Effect<Either.Either<void, string>> =>
  Effect.acquireUseRelease(
    Effect.sync(() => makeTree({ sandboxes: { take: () => start(service, profile) }, graceMillis: 0 })),
    (tree) => {
      const stderr = makeTail(tailBytes)
      return Effect.tryPromise(() =>
        tree.run({
          argv: trial,
          cwd: null,
          env: { PATH: process.env.PATH ?? "" },
          stdin: "",
          onOutput: () => true,
          onError: stderr.push,
        }),
      ).pipe(
        Effect.timeout(trialMillis),
        Effect.map((ended) => {
          if (ended._tag === "Refused") return Either.left(ended.refusal.detail)
          if (ended._tag === "Exited" && ended.exitCode === 7) return Either.void
          return Either.left(
            `a command in it ended unlike elsewhere${stderr.text() === "" ? "" : `: ${stderr.text()}`}`,
          )
        }),
        Effect.catchTags({
          TimeoutException: () => Effect.succeed(Either.left(`a command in it did not end within ${trialMillis} ms`)),
          UnknownException: (error) => Effect.succeed(Either.left(String(error.error))),
        }),
      )
    },
    (tree) => Effect.promise(() => tree.end()),
  )

/** The kernel's first version that counts the processes of each user namespace by themselves. */
const countsPerNamespace = (): boolean => {
  const [major = 0, minor = 0] = release().split(".").map(Number)
  return major > 5 || (major === 5 && minor >= 14)
}

const isRoot = (): boolean => process.getuid?.() === 0

export interface Options {
  readonly identity: Identity
  readonly scratch: Scratch
  readonly hidden: Service["hidden"]
  readonly launcher: Launcher
}

const group = (options: Options, { adopts, limits }: Abilities): Service => ({
  ...options,
  mode: "group",
  cgroups: openCgroups(options.identity),
  kind: adopts ? "group" : "bare",
  processesFor: limits ? processesFor(false) : () => null,
})

const processesFor =
  (hasUserNamespace: boolean): Service["processesFor"] =>
  ({ limits, user }) => {
    const uid = user?.uid ?? process.getuid?.() ?? 0
    if (uid === 0) return null
    // The kernel counts all of the user's processes and threads, where it does not count those of a namespace.
    return limits.processes + (hasUserNamespace && countsPerNamespace() ? 0 : tasksOf(uid))
  }

/** Those to try, in this order: root needs no user namespace; whoever else may have one keeps their own name in it. */
const namespaces = (base: Service): ReadonlyArray<Service> => [
  ...(isRoot() ? [{ ...base, mode: "namespace", kind: "namespace" } as const] : []),
  { ...base, mode: "namespace", kind: "user-namespace", processesFor: processesFor(true) },
]

/** What holds the processes of attempts together, and, for a group that was not asked for, why it is no namespace. */
export interface Found {
  readonly service: Service
  readonly why: string | null
}

/** What is demanded, or the first that works; the reason where a namespace was demanded and there is none. */
export const probe = (
  demanded: Mode | "auto",
  options: Options,
  abilities: Abilities,
  profile: Profile,
): Effect.Effect<Either.Either<Found, string>> =>
  Effect.gen(function* () {
    // Its control groups are opened once, and are those of the namespaces too.
    const base = group(options, abilities)
    if (demanded === "group") return Either.right({ service: base, why: null })
    const reasons: Array<string> = []
    for (const service of namespaces(base)) {
      const tried = yield* attempt(service, profile)
      if (Either.isRight(tried)) return Either.right({ service, why: null })
      reasons.push(tried.left)
    }
    const why = [...new Set(reasons)].join("; ")
    return demanded === "auto" ? Either.right({ service: base, why }) : Either.left(why)
  })
