/**
 * One sandbox for one command. Its leader, a fork of the launcher, waits, so that everything that takes time is done
 * before the command is known; then the command begins within a millisecond or two. Nothing of it is used again.
 *
 * The kernel ends a namespace with its first process, that one with the launcher, and the launcher with the service. The
 * leader of a group ends what is in it when its launcher ends, or the other end of its control stream is closed.
 */
import { existsSync } from "node:fs"
import { join, sep } from "node:path"
import type { Limits } from "../OffloadConfig.js"
import type { Cgroup, Cgroups } from "./Cgroup.js"
import { isRefusal, type Launch, type Mode, type Refusal, type Sandbox, type Started } from "./Containment.js"
import type { Launcher, Mount, Order } from "./Launcher.js"
import type { Leader } from "./Leader.js"
import { type Identity, isOf, makeMark, variable } from "./Marker.js"
import { killWhere } from "./Processes.js"
import { type Folders, type Scratch, temporaryName, type User } from "./Scratch.js"

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
  readonly launcher: Launcher
  readonly kind: Order["kind"]
  /** The limit of processes that is set for each; `null`: the kernel would not hold the command to one. */
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
  const folders = service.scratch.make()
  const number = ++sequence
  const cgroup = cgroupOf(service, profile, number)
  const mark = makeMark(service.identity, number)
  const leader = await service.launcher.make({
    kind: service.kind,
    name: folders.name,
    user: userOf(profile),
    mark,
    joinFile: cgroup?.joinFile ?? "",
    killFile: cgroup?.killFile ?? "",
    mounts: service.mode === "namespace" ? mountsOf(service, profile, folders, cgroup) : [],
  })
  if (!isRefusal(leader)) return sandboxOf(service, profile, folders, cgroup, mark, leader)
  await Promise.all([folders.remove(), cgroup?.remove()])
  return leader
}

/** A group is held together by it. A namespace needs one only for the processes of root, whom no limit of its own holds. */
const cgroupOf = ({ cgroups, mode }: Service, { limits, user }: Profile, number: number): Cgroup | null =>
  cgroups === null || (mode === "namespace" && !(cgroups.isLimiting && (process.getuid?.() === 0 || user !== null)))
    ? null
    : cgroups.make(number, limits.processes)

/** What root may write there though it has no privilege left: settings of the kernel, and control groups. */
const kernelFiles: ReadonlyArray<string> = ["/proc/sys", "/proc/sysrq-trigger", "/sys"]

/** Message queues of other namespaces are files there. */
const queues = "/dev/mqueue"

const mountsOf = (
  service: Service,
  { user }: Profile,
  { outer }: Folders,
  cgroup: Cgroup | null,
): ReadonlyArray<Mount> => {
  const { cgroups, hidden } = service
  const inside = insideOf(service)
  const folders = [...hidden.folders, queues, ...(cgroup === null || cgroups === null ? [] : [cgroups.mount])]
  const readOnly = process.getuid?.() === 0 && user === null ? kernelFiles : []
  return [
    ["tmpfs", "shm", "/dev/shm"],
    ["bind", outer, inside],
    // What stands there now is this sandbox alone.
    ...folders
      .filter((folder) => folder !== inside && existsSync(folder))
      .map((folder): Mount => ["bind", inside, folder]),
    ...hidden.files.filter(existsSync).map((file): Mount => ["bind", "/dev/null", file]),
    ...readOnly.filter(existsSync).map((path): Mount => ["readonly", path, path]),
  ]
}

/** The limits of a command, as the launcher takes them. */
const limitsOf = ({ cpuSeconds, fileBytes, memoryBytes, openFiles }: Limits, processes: number | null): string =>
  Object.entries({ processor: cpuSeconds, file: fileBytes, files: openFiles, memory: memoryBytes, processes })
    .flatMap(([name, value]) => (value === undefined || value === null ? [] : [`${name}=${value}`]))
    .join(" ")

const userOf = ({ user }: Profile): string => (user === null ? "" : [user.uid, user.gid, ...user.groups].join(" "))

const sandboxOf = (
  service: Service,
  profile: Profile,
  folders: Folders,
  cgroup: Cgroup | null,
  mark: bigint,
  leader: Leader,
): Sandbox => {
  const { control, stderr, stdin, stdout } = leader.streams
  const isNamespace = service.mode === "namespace"
  const hasReaper = service.kind === "group"
  // The leader is the last one in its control group, and removes the folders where it can.
  const removed = leader.gone.then(async () => {
    await Promise.all([folders.remove(), cgroup?.remove()])
  })
  const close = (): void => {
    for (const pipe of [stdin, stdout, stderr, control]) pipe.destroy()
  }

  const launch = (command: Launch): Started | Refusal => {
    if (command.argv.some((word) => word.includes("\0"))) {
      return { code: "EINVAL", detail: "the system takes no such argument (EINVAL)" }
    }
    // In its namespace the sandbox's folder stands in place of the one that it is in.
    const parent = isNamespace ? insideOf(service) : folders.outer
    const { argv, onBegin } = command
    const cwd = command.cwd ?? join(parent, folders.name)
    const env = { ...command.env, TMPDIR: join(parent, temporaryName) }
    const processes = cgroup?.isLimited === true ? null : service.processesFor(profile)
    leader.start({ argv, cwd, env, limits: limitsOf(profile.limits, processes), onBegin })
    stdin.end(command.stdin)
    const cookie = command.env[variable] ?? ""
    return {
      stdout,
      stderr,
      exited: leader.exited,
      failure: leader.failure,
      signal: (signal) => {
        if (signal === "SIGKILL" && hasReaper) killByLeader(leader)
        else leader.signal(signal, "group")
      },
      clear: async ([, signal]) => {
        const endedItself = signal === null
        // The kernel has told of the end of its first process, and so of all.
        if (isNamespace && !leader.isLost()) return { gone: true, knownBy: "namespace" }
        if (endedItself && hasReaper) return { gone: true, knownBy: "reaper" }
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
      close()
      killLater(leader)
    },
    gone: leader.exited.then(() => {}),
    isUsable: () => !leader.isGone(),
    removed,
  }
}

/** How long a leader may take to end what is in its sandbox, in milliseconds. */
const endMillis = 500

/** Where the leader does not end it. */
const killLater = (leader: Leader): void => {
  const timer = setTimeout(() => leader.signal("SIGKILL", "group"), endMillis)
  void leader.gone.then(() => clearTimeout(timer))
}

/** Somebody may have stopped or killed the leader: then the group is killed without it. */
const killByLeader = (leader: Leader): void => {
  leader.signal("SIGUSR1", "leader")
  // One that is stopped cannot listen.
  leader.signal("SIGCONT", "leader")
  killLater(leader)
}
