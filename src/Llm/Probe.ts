/** Finds out how the processes of an attempt can be held together on this machine, by doing it. */
import { release } from "node:os"
import { Effect, Either } from "effect"
import { open as openCgroups } from "./Cgroup.js"
import type { Argv, Mode } from "./Containment.js"
import { find } from "./Executable.js"
import type { Identity } from "./Marker.js"
import { make as makeTree } from "./ProcessTree.js"
import { tasksOf } from "./Procfs.js"
import { reaper } from "./Reaper.js"
import { type Profile, type Service, start } from "./Sandbox.js"
import type { Scratch, User } from "./Scratch.js"
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

/** What gives up every privilege, so that neither a program of the system nor a bug of the command gets one back. */
const dropAll = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]

const becoming = (user: User | null): ReadonlyArray<string> =>
  user === null ? [] : [`--reuid=${user.uid}`, `--regid=${user.gid}`, "--init-groups"]

export interface Options {
  readonly identity: Identity
  readonly scratch: Scratch
  readonly hidden: Service["hidden"]
}

const group = ({ hidden, identity, scratch }: Options): Service => {
  const setpriv = find("setpriv")
  const wrapper = reaper()
  return {
    mode: "group",
    identity,
    scratch,
    cgroups: openCgroups(identity),
    path: process.env.PATH ?? "",
    wrapper,
    hasReaper: wrapper.length > 0,
    // Without root, there is no privilege but that of programs which give one.
    drop: (user) =>
      setpriv === null ? [] : [setpriv, ...(isRoot() ? dropAll : ["--no-new-privs"]), ...becoming(user), "--"],
    processesFor: processesFor(false),
    hidden,
  }
}

const processesFor =
  (hasUserNamespace: boolean): Service["processesFor"] =>
  ({ limits, user }) => {
    const uid = user?.uid ?? process.getuid?.() ?? 0
    if (uid === 0) return null
    // The kernel counts all of the user's processes and threads, where it does not count those of a namespace.
    return limits.processes + (hasUserNamespace && countsPerNamespace() ? 0 : tasksOf(uid))
  }

/** The same in a namespace; `null`: util-linux is not on PATH. */
const namespace = (base: Service, privileges: ReadonlyArray<string>): Service | null => {
  const [setpriv, unshare] = [find("setpriv"), find("unshare")]
  if (setpriv === null || unshare === null) return null
  const hold = ["--pid", "--fork", "--kill-child=KILL", "--mount", "--ipc", "--mount-proc"]
  return {
    ...base,
    mode: "namespace",
    hasReaper: false,
    wrapper: [setpriv, "--pdeathsig", "KILL", unshare, ...privileges, ...hold],
    drop: (user) => [setpriv, ...dropAll, ...becoming(user), "--"],
    processesFor: processesFor(privileges.length > 0),
  }
}

/** Those to try, in this order: root needs no user namespace; whoever else may have one keeps their own name in it. */
const namespaces = (base: Service): ReadonlyArray<Service | null> => [
  ...(isRoot() ? [namespace(base, [])] : []),
  namespace(base, ["--user", "--map-current-user", "--keep-caps"]),
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
  profile: Profile,
): Effect.Effect<Either.Either<Found, string>> =>
  Effect.gen(function* () {
    // Its control groups are opened once, and are those of the namespaces too.
    const base = group(options)
    if (demanded === "group") return Either.right({ service: base, why: null })
    const reasons: Array<string> = []
    for (const service of namespaces(base)) {
      if (service === null) {
        reasons.push("the commands 'setpriv' and 'unshare' (util-linux) are not both on PATH")
        continue
      }
      const tried = yield* attempt(service, profile)
      if (Either.isRight(tried)) return Either.right({ service, why: null })
      reasons.push(tried.left)
    }
    const why = [...new Set(reasons)].join("; ")
    return demanded === "auto" ? Either.right({ service: base, why }) : Either.left(why)
  })
