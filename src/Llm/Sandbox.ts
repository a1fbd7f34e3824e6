/**
 * One sandbox for one command. A shell in it waits, so that everything that takes time is done before the command is
 * known; then the command begins within a millisecond or two. Nothing of it is used again.
 *
 * The kernel ends a namespace with its first process, that one with `unshare` (`--kill-child`), and `unshare` with the
 * service (`--pdeathsig`). A shell that waits ends when the other end of its descriptor 3 is closed.
 */
import type { ChildProcess } from "node:child_process"
import { accessSync, constants, existsSync, unlinkSync, writeFileSync } from "node:fs"
import { basename, join, sep } from "node:path"
import type { Limits } from "../OffloadConfig.js"
import type { Cgroup, Cgroups } from "./Cgroup.js"
import type { Argv, Exit, Launch, Mode, Refusal, Sandbox, Started } from "./Containment.js"
import { type Identity, isOf, makeCookie, makeMark, variable } from "./Marker.js"
import { killWhere } from "./Processes.js"
import { beginOf, mountsOf, ready, refusalOf, shellOf } from "./SandboxScript.js"
import { type Folders, launchFile, mountsFile, type Scratch, ScratchError, type User } from "./Scratch.js"
import { codeOf, type Spawned, signalGroup, spawnGroup } from "./Spawn.js"

/** The longest that a sandbox may take to be ready. */
const readyMillis = 5000

/** How much of a complaint is kept. */
const maxComplaint = 4096

/** What the commands of a resource are held to. */
export interface Profile {
  readonly limits: Limits
  readonly user: User | null
}

/** What all sandboxes of a service share. */
export interface Service {
  readonly mode: Mode
  readonly identity: Identity
  readonly scratch: Scratch
  readonly cgroups: Cgroups | null
  /** Where the shell finds `mount`, `prlimit` and `bash`. */
  readonly path: string
  /** What starts the shell: the means of a namespace, or the reaper of a group, where there is one. */
  readonly wrapper: ReadonlyArray<string>
  readonly hasReaper: boolean
  /** What gives up privileges, for a user or for the service's own. */
  readonly drop: (user: User | null) => ReadonlyArray<string>
  /** The limit of processes that the shell sets; `null`: the kernel would not hold the command to one. */
  readonly processesFor: (profile: Profile) => number | null
  /** Folders and files that no command must see. */
  readonly hidden: { readonly folders: ReadonlyArray<string>; readonly files: ReadonlyArray<string> }
}

/** In a namespace, the folder that a sandbox's own stands in place of: the root of all, or a hidden one around it. */
const insideOf = ({ hidden, scratch: { root } }: Service): string =>
  hidden.folders.find((folder) => root.startsWith(folder + sep)) ?? root

let sequence = 0

/** Starts one; resolves when it is ready, or to why the machine does not give it. */
export const start = async (service: Service, profile: Profile): Promise<Sandbox | Refusal> => {
  let folders: Folders
  try {
    folders = service.scratch.make(profile.user)
  } catch (error) {
    if (error instanceof ScratchError) return { code: error.code, detail: error.message }
    throw error
  }
  const number = ++sequence
  const cgroup = cgroupOf(service, profile, number)
  const discard = async (refusal: Refusal): Promise<Refusal> => {
    await Promise.all([folders.remove(), cgroup?.remove()])
    return refusal
  }
  const argv = argvOf(service, profile, folders, cgroup, number)
  if (!isArgv(argv)) return discard(argv)
  const env = { PATH: service.path, LC_ALL: "C", [variable]: makeCookie(service.identity, "") }
  const spawned = spawnGroup(argv, { cwd: "/", env })
  if (spawned instanceof Promise) {
    const code = await spawned
    return discard({ code, detail: `the machine starts no process (${code})` })
  }
  // Its last words are read by then.
  const closed = new Promise((resolve) => spawned.leader.once("close", resolve))
  const shell = follow(spawned, cgroup)
  const timer = setTimeout(() => signalGroup(spawned.leader, "SIGKILL"), readyMillis)
  const isReady = await shell.ready
  clearTimeout(timer)
  if (!isReady) {
    await Promise.all([shell.gone, closed])
    return discard(shell.complaint())
  }
  return sandboxOf(service, profile, folders, cgroup, number, spawned, shell)
}

/** What root may write there though it has no privilege left: settings of the kernel, and control groups. */
const kernelFiles: ReadonlyArray<string> = ["/proc/sys", "/proc/sysrq-trigger", "/sys"]

/** Message queues of other namespaces are files there. */
const queues = "/dev/mqueue"

const isArgv = (value: Argv | Refusal): value is Argv => Array.isArray(value)

/** A group is held together by it. A namespace needs one only to limit the processes of root, whom `ulimit` does not. */
const cgroupOf = ({ cgroups, mode }: Service, { limits, user }: Profile, number: number): Cgroup | null =>
  cgroups === null || (mode === "namespace" && !(cgroups.isLimiting && (process.getuid?.() === 0 || user !== null)))
    ? null
    : cgroups.make(number, limits.processes)

const argvOf = (
  service: Service,
  { user }: Profile,
  { outer }: Folders,
  cgroup: Cgroup | null,
  number: number,
): Argv | Refusal => {
  const { cgroups, hidden, identity, mode, wrapper } = service
  const inside = insideOf(service)
  const readOnly =
    mode === "namespace" && process.getuid?.() === 0 && user === null ? kernelFiles.filter(existsSync) : []
  let mounts: string | null = null
  if (mode === "namespace") {
    mounts = join(outer, mountsFile)
    const text = mountsOf({
      outer,
      root: inside,
      hiddenFolders: [
        ...hidden.folders,
        queues,
        ...(cgroup === null || cgroups === null ? [] : [cgroups.mount]),
      ].filter((folder) => folder !== inside && existsSync(folder)),
      hiddenFiles: hidden.files.filter(existsSync),
      readOnly,
    })
    try {
      writeFileSync(mounts, text, { mode: 0o600 })
    } catch (error) {
      return { code: codeOf(error), detail: `the temporary folder '${outer}' cannot be used (${codeOf(error)})` }
    }
  }
  const [command = "", ...args] = [
    ...wrapper,
    ...shellOf({
      mode,
      // In its namespace the sandbox's folder stands in place of the one that it is in.
      launchFile: join(mode === "namespace" ? inside : outer, launchFile),
      mountsFile: mounts,
      cgroupFile: cgroup?.joinFile ?? null,
      mark: mode === "group" ? makeMark(identity, number) : null,
      readOnly,
    }),
  ]
  return [command, ...args]
}

/** What the shell tells. */
interface Shell {
  /** Resolves to whether it waits for its command. */
  readonly ready: Promise<boolean>
  readonly exited: Promise<Exit>
  /** Resolves when nothing of the sandbox is left that holds its pipes. */
  readonly gone: Promise<void>
  readonly complaint: () => Refusal
  /** Called when the command begins. */
  onBegin: () => void
}

const follow = ({ control, leader, stderr }: Spawned, cgroup: Cgroup | null): Shell => {
  let complaint = ""
  let begun = false
  const complain = (text: string): void => {
    if (complaint.length < maxComplaint) complaint = `${complaint}${text}\n`.slice(0, maxComplaint)
  }
  const early = (chunk: Uint8Array): void => complain(Buffer.from(chunk).toString("latin1"))
  stderr.on("data", early)
  const exited = new Promise<Exit>((resolve) => leader.once("exit", (code, signal) => resolve([code, signal])))
  const gone = exited.then(async () => {
    if (!begun) await cgroup?.kill()
  })
  const shell: Shell = {
    exited,
    gone,
    ready: new Promise((resolve) => {
      void exited.then(() => resolve(false))
      let rest = ""
      control.setEncoding("latin1").on("data", (text: string) => {
        // What comes later is from whoever got hold of the descriptor.
        if (begun) return
        const lines = (rest + text).slice(-maxComplaint).split("\n")
        rest = lines.pop() ?? ""
        for (const line of lines) {
          if (line === ready) {
            stderr.off("data", early).pause()
            resolve(true)
          } else if (line === "") {
            begun = true
            shell.onBegin()
            return
          } else complain(line)
        }
      })
    }),
    complaint: () => refusalFrom(complaint.trim()),
    onBegin: () => {},
  }
  return shell
}

/** What the means of containment print where there is no room, and the code that the kernel gave them. */
const noRoom: ReadonlyArray<readonly [RegExp, string]> = [
  [/temporarily unavailable|cannot fork|can't fork/i, "EAGAIN"],
  [/no space left/i, "ENOSPC"],
  [/cannot allocate memory/i, "ENOMEM"],
  [/too many open files/i, "EMFILE"],
]

const refusalFrom = (text: string): Refusal => {
  const code = noRoom.find(([pattern]) => pattern.test(text))?.[1] ?? "ECONTAIN"
  const said = text === "" ? "" : `: ${text}`
  return {
    code,
    detail:
      code === "ECONTAIN"
        ? `its sandbox could not be made${said}`
        : `the machine has no room for its processes (${code})${said}`,
  }
}

const sandboxOf = (
  service: Service,
  profile: Profile,
  folders: Folders,
  cgroup: Cgroup | null,
  number: number,
  spawned: Spawned,
  shell: Shell,
): Sandbox => {
  const { control, leader, stderr, stdin, stdout } = spawned
  const isNamespace = service.mode === "namespace"
  const pipes = [stdin, stdout, stderr, control]
  const close = (): void => {
    for (const pipe of pipes) pipe.destroy()
  }
  const runs = (): boolean => leader.exitCode === null && leader.signalCode === null

  const launch = (command: Launch): Started | Refusal => {
    // In its namespace the sandbox's folder stands in place of the one that it is in.
    const inside = insideOf(service)
    const temporary = isNamespace ? join(inside, basename(folders.temporary)) : folders.temporary
    const work = isNamespace ? join(inside, basename(folders.work)) : folders.work
    const env = { ...command.env, TMPDIR: temporary }
    const code = refusalOf({ argv: command.argv, env })
    if (code !== null) return { code, detail: `the system takes no such argument or variable (${code})` }
    if (command.cwd !== null) {
      const reason = reasonOf(command.cwd)
      if (reason !== null)
        return { code: reason, detail: `its working folder '${command.cwd}' cannot be used (${reason})` }
    }
    const text = beginOf({
      argv: command.argv,
      cwd: command.cwd ?? work,
      env,
      limits: profile.limits,
      processes: cgroup?.isLimited === true ? null : service.processesFor(profile),
      drop: service.drop(profile.user),
      watch: isNamespace ? null : { killFile: cgroup?.killFile ?? null, hasReaper: service.hasReaper },
    })
    const file = join(folders.outer, launchFile)
    try {
      writeFileSync(file, text, { mode: 0o600 })
    } catch (error) {
      return {
        code: codeOf(error),
        detail: `the temporary folder '${folders.outer}' cannot be used (${codeOf(error)})`,
      }
    }
    shell.onBegin = () => {
      // It may hold secrets of the environment, and has been read.
      try {
        unlinkSync(file)
      } catch {
        // It is removed with the folder.
      }
      command.onBegin()
    }
    control.write("\n")
    stdin.end(command.stdin)
    const cookie = command.env[variable] ?? ""
    const mark = makeMark(service.identity, number)
    return {
      stdout,
      stderr,
      pipes: [stdout, stderr, control],
      exited: shell.exited,
      complaint: shell.complaint,
      signal: (signal) => {
        if (!runs()) return
        if (signal === "SIGKILL" && service.hasReaper) killByReaper(leader)
        else signalGroup(leader, signal)
      },
      clear: async ([, signal]) => {
        const endedItself = signal === null
        if (isNamespace) {
          // One that ended by itself is empty. What was killed from outside may leave something for a moment.
          if (!endedItself) signalGroup(leader, "SIGKILL")
          return { gone: true, knownBy: "namespace" }
        }
        if (endedItself && service.hasReaper) return { gone: true, knownBy: "reaper" }
        signalGroup(leader, "SIGKILL")
        const isEmpty = cgroup === null || (await cgroup.kill())
        // Another user cannot leave it; a command of the service's own user may have the right to.
        if (cgroup !== null && profile.user !== null) return { gone: isEmpty, knownBy: "cgroup" }
        const { left } = await killWhere(isOf(cookie, mark))
        return { gone: isEmpty && !left, knownBy: cgroup === null ? "search" : "cgroup" }
      },
      close,
    }
  }

  return {
    launch,
    discard: () => {
      if (runs()) signalGroup(leader, "SIGKILL")
      close()
    },
    gone: shell.gone,
    isUsable: runs,
    removeFolders: async () => {
      const [error] = await Promise.all([folders.remove(), cgroup?.remove()])
      return error
    },
  }
}

/** How long the leader of a group may take to kill what it has adopted, in milliseconds. */
const reapMillis = 500

/** Somebody may have stopped or killed the leader: then the group is killed without it. */
const killByReaper = (leader: ChildProcess): void => {
  leader.kill("SIGUSR1")
  // One that is stopped cannot listen.
  leader.kill("SIGCONT")
  const timer = setTimeout(() => signalGroup(leader, "SIGKILL"), reapMillis)
  leader.once("exit", () => clearTimeout(timer))
}

/** The system's code for why a folder cannot be worked in; `null` where it can. */
export const reasonOf = (folder: string): string | null => {
  try {
    accessSync(`${folder}/.`, constants.X_OK)
    return null
  } catch (error) {
    return codeOf(error)
  }
}
