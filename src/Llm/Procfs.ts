/** What `/proc` tells of other processes. On a machine without it there are none. */
import { readdirSync, readFileSync } from "node:fs"

const read = (path: string): Buffer | null => {
  try {
    return readFileSync(path)
  } catch {
    // It has ended, or is another user's: either way it is none of ours.
    return null
  }
}

/** The fields of `/proc/<pid>/stat` after the name, which may itself hold spaces and brackets. */
const stat = (pid: number): ReadonlyArray<string> => {
  const text = read(`/proc/${pid}/stat`)?.toString("latin1") ?? ""
  return text.slice(text.lastIndexOf(")") + 2).split(" ")
}

/** When a process began, in clock ticks since the machine did; `undefined` if there is no such process. */
export const startTime = (pid: number): string | undefined => stat(pid)[19]

/** This process, its parent, and so on. */
export const lineage = (): ReadonlySet<number> => {
  const found = new Set<number>()
  for (let pid = process.pid; pid > 0 && !found.has(pid); pid = Number(stat(pid)[1])) found.add(pid)
  return found
}

/** The ids of all processes. */
export const pids = (): ReadonlyArray<number> => {
  try {
    return readdirSync("/proc").flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []))
  } catch {
    return []
  }
}

/** The value of a variable in the environment that a process was started with; `null` of one that has ended. */
export const environment = (pid: number, variable: string): string | null => {
  const key = `${variable}=`
  const environ = read(`/proc/${pid}/environ`)
  // Most processes lack it: searching bytes is cheaper than decoding them.
  if (environ === null || !environ.includes(key)) return null
  const entry = environ
    .toString("utf8")
    .split("\0")
    .find((entry) => entry.startsWith(key))
  return entry === undefined ? null : entry.slice(key.length)
}

/** A process that has ended and was not waited for: it can neither be killed nor do anything. */
const isZombie = (pid: number): boolean => stat(pid)[0] === "Z"

/** Whether a process is a zombie that another process has to wait for: this one waits for none but its own children. */
export const isUnburied = (pid: number): boolean => {
  const [state, parent] = stat(pid)
  return state === "Z" && Number(parent) !== process.pid
}

/** A living process's limit of real-time scheduling; `null` where there is none, as nearly everywhere. */
export const realtimeLimit = (pid: number): bigint | null => {
  const [, limit] = /^Max realtime timeout +(\d+)/m.exec(read(`/proc/${pid}/limits`)?.toString("latin1") ?? "") ?? []
  return limit === undefined || isZombie(pid) ? null : BigInt(limit)
}

/** How long a count of tasks is believed, in milliseconds. */
const countMillis = 5000
const counts = new Map<number, { readonly at: number; readonly tasks: number }>()

/** How many processes and threads a user has, as of a few seconds ago. */
export const tasksOf = (uid: number): number => {
  const known = counts.get(uid)
  if (known !== undefined && performance.now() - known.at < countMillis) return known.tasks
  let tasks = 0
  for (const pid of pids()) {
    const status = read(`/proc/${pid}/status`)?.toString("latin1") ?? ""
    if (Number(/^Uid:\t(\d+)/m.exec(status)?.[1]) === uid) tasks += Number(/^Threads:\t(\d+)/m.exec(status)?.[1] ?? 0)
  }
  counts.set(uid, { at: performance.now(), tasks })
  return tasks
}
