/**
 * Control groups (cgroups(7)), where the service may make some beside or below its own: a process cannot leave one
 * without the right to write there, so that all of an attempt are found and killed, and are counted together.
 *
 * Version 2 has `cgroup.kill`; whether it also limits the number of processes depends on its `pids` controller being
 * free to be handed on. Version 1 limits by its `pids` hierarchy, and is killed one process after another.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { type Identity, isAbandoned } from "./Marker.js"
import { awaitBurial } from "./Processes.js"

/** The longest that it takes until what was killed is gone, in milliseconds. */
const killMillis = 2000

/** The control group of one attempt. */
export interface Cgroup {
  /** The file by which a process joins it. */
  readonly joinFile: string
  /** The file that kills all of it when `1` is written there; `null`: version 1 has none. */
  readonly killFile: string | null
  /** Whether it limits the number of processes. */
  readonly isLimited: boolean
  /** Kills all of it; resolves to whether nothing is left. */
  readonly kill: () => Promise<boolean>
  /** To be called when nothing is left in it. */
  readonly remove: () => Promise<void>
}

export interface Cgroups {
  /** Where they are mounted. */
  readonly mount: string
  readonly isLimiting: boolean
  /** Makes one; `null` where the system refuses it. */
  readonly make: (sequence: number, processes: number | null) => Cgroup | null
  /** Kills and removes what earlier runs of this installation left behind; resolves to how many processes that were. */
  readonly sweep: () => Promise<number>
  /** Removes what is empty, when those that are being removed are. */
  readonly close: () => Promise<void>
}

const read = (path: string): string => {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return ""
  }
}

const write = (path: string, text: string): boolean => {
  try {
    writeFileSync(path, text)
    return true
  } catch {
    return false
  }
}

const processesOf = (folder: string): ReadonlyArray<number> =>
  read(join(folder, "cgroup.procs"))
    .split("\n")
    .filter((line) => line !== "")
    .map(Number)

/** Where this process's own control group is, in each hierarchy. */
const ownFolders = (): ReadonlyArray<{ readonly folder: string; readonly mount: string; readonly version: 1 | 2 }> => {
  const groups = read("/proc/self/cgroup").split("\n")
  const pathOf = (controller: string) =>
    groups.flatMap((line) => {
      const [, controllers = "", ...path] = line.split(":")
      return line !== "" && controllers.split(",").includes(controller) ? [path.join(":")] : []
    })[0]
  return read("/proc/self/mountinfo")
    .split("\n")
    .flatMap((line) => {
      const [, , , root = "/", mount = "", , ...rest] = line.split(" ")
      const [type = "", , options = ""] = rest.slice(rest.indexOf("-") + 1)
      const version = type === "cgroup2" ? 2 : type === "cgroup" && options.split(",").includes("pids") ? 1 : null
      const path = version === null ? undefined : pathOf(version === 2 ? "" : "pids")
      if (version === null || path === undefined) return []
      // A container is shown its own group as the root.
      const inside = root !== "/" && path.startsWith(root) ? path.slice(root.length) : path
      return [{ folder: join(mount, inside), mount, version } as const]
    })
}

/** Hands the controller on to groups below. Version 2 wants no process beside them, so that this one moves aside. */
const enablePids = (folder: string, prefix: string): boolean => {
  const control = join(folder, "cgroup.subtree_control")
  const enable = () => read(control).split(/\s+/).includes("pids") || write(control, "+pids")
  if (enable()) return true
  if (!read(join(folder, "cgroup.controllers")).split(/\s+/).includes("pids")) return false
  const own = join(folder, `${prefix}service`)
  try {
    mkdirSync(own)
  } catch {
    return false
  }
  if (write(join(own, "cgroup.procs"), String(process.pid)) && enable()) return true
  write(join(folder, "cgroup.procs"), String(process.pid))
  removeNow(own)
  return false
}

const removeNow = (folder: string): boolean => {
  try {
    rmdirSync(folder)
    return true
  } catch {
    return !existsSync(folder)
  }
}

const until = async (holds: () => boolean): Promise<boolean> => {
  const end = Date.now() + killMillis
  while (!holds()) {
    if (Date.now() > end) return false
    await sleep(2)
  }
  return true
}

const killAll = async (folder: string): Promise<boolean> => {
  const killed = new Set<number>()
  const isEmpty = await until(() => {
    const found = processesOf(folder)
    for (const pid of found) killed.add(pid)
    if (found.length > 0 && !write(join(folder, "cgroup.kill"), "1")) {
      for (const pid of found) {
        try {
          process.kill(pid, "SIGKILL")
        } catch {
          // It ended by itself.
        }
      }
    }
    return found.length === 0
  })
  await awaitBurial([...killed])
  return isEmpty
}

/** Whether groups can be made in a folder; a trial, since permissions alone do not tell. */
const isUsable = (folder: string, name: string): boolean => {
  const trial = join(folder, name)
  try {
    mkdirSync(trial)
  } catch {
    return false
  }
  const joins = existsSync(join(trial, "cgroup.procs"))
  return removeNow(trial) && joins
}

/** The control groups of this service; `null` where it may make none. */
export const open = ({ installation, owner }: Identity): Cgroups | null => {
  const prefix = `offload-${installation}-`
  const usable = ownFolders().filter(({ folder }) => isUsable(folder, `${prefix}${owner}-trial`))
  // Version 1 limits where version 2 has lost its controllers to it.
  const limiting = usable.find(({ folder, version }) => version === 1 || enablePids(folder, `${prefix}${owner}-`))
  const found = limiting ?? usable[0]
  if (found === undefined) return null
  const { folder: parent, mount } = found
  const removing = new Set<Promise<unknown>>()

  return {
    mount,
    isLimiting: limiting !== undefined,
    make: (sequence, processes) => {
      const folder = join(parent, `${prefix}${owner}-${sequence}`)
      try {
        mkdirSync(folder)
      } catch {
        return null
      }
      const killFile = join(folder, "cgroup.kill")
      return {
        joinFile: join(folder, "cgroup.procs"),
        killFile: existsSync(killFile) ? killFile : null,
        isLimited: processes !== null && write(join(folder, "pids.max"), String(processes)),
        kill: () => killAll(folder),
        remove: async () => {
          // The launcher has removed it, as a rule.
          if (!existsSync(folder)) return
          // What has ended stays counted until its parent has looked.
          const removed = until(() => removeNow(folder))
          removing.add(removed)
          await removed
          removing.delete(removed)
        },
      }
    },
    sweep: async () => {
      let killed = 0
      for (const name of readdirSync(parent)) {
        const [, theirs = ""] = name.startsWith(prefix) ? name.slice("offload-".length).split("-") : []
        if (theirs === "" || !isAbandoned({ installation, owner }, { installation, owner: theirs })) continue
        const folder = join(parent, name)
        killed += processesOf(folder).length
        if (await killAll(folder)) await until(() => removeNow(folder))
      }
      return killed
    },
    close: async () => {
      await Promise.all(removing)
      const own = join(parent, `${prefix}${owner}-service`)
      if (existsSync(own)) {
        write(join(parent, "cgroup.subtree_control"), "-pids")
        write(join(parent, "cgroup.procs"), String(process.pid))
        removeNow(own)
      }
    },
  }
}
