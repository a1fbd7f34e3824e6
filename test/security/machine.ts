/** What a test sees of the processes of the machine, from outside of every sandbox. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs"

const read = (path: string): string => {
  try {
    return readFileSync(path, "latin1")
  } catch {
    // It has ended.
    return ""
  }
}

export const pids = (): ReadonlyArray<number> =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)

/** The processes that live and have a text among their arguments. */
export const processesNamed = (text: string): ReadonlyArray<number> =>
  pids().filter((pid) => read(`/proc/${pid}/cmdline`).includes(text))

export const commandOf = (pid: number): string => read(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim()

const parentOf = (pid: number): number => {
  const stat = read(`/proc/${pid}/stat`)
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1] ?? 0)
}

/** The processes that a process started, and theirs. */
export const descendantsOf = (root: number): ReadonlyArray<number> => {
  const parents = new Map(pids().map((pid) => [pid, parentOf(pid)]))
  const descends = (pid: number): boolean => {
    const parent = parents.get(pid)
    return parent !== undefined && (parent === root || descends(parent))
  }
  return [...parents.keys()].filter(descends)
}

/** Where the descriptors of a process lead, by their numbers. */
export const descriptorsOf = (pid: number): ReadonlyMap<number, string> => {
  const found = new Map<number, string>()
  try {
    for (const name of readdirSync(`/proc/${pid}/fd`)) found.set(Number(name), readlinkSync(`/proc/${pid}/fd/${name}`))
  } catch {
    // It has ended.
  }
  return found
}
