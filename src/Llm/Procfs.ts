/**
 * Finds processes by their environment in `/proc`, and kills them. On a machine without `/proc` it finds none.
 */
import { readdirSync, readFileSync } from "node:fs"
import { setImmediate, setTimeout } from "node:timers/promises"

/** How many processes are looked at before other work gets its turn: about a millisecond. */
const slice = 64

/** The longest that `killWhere` goes on. */
const killMillis = 2000

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
const lineage = (): ReadonlySet<number> => {
  const pids = new Set<number>()
  for (let pid = process.pid; pid > 0 && !pids.has(pid); pid = Number(stat(pid)[1])) pids.add(pid)
  return pids
}

const pids = (): ReadonlyArray<number> => {
  try {
    return readdirSync("/proc").flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : []))
  } catch {
    return []
  }
}

/** The value of a variable in the environment that a process was started with; `null` of one that has ended. */
const environment = (pid: number, variable: string): string | null => {
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

/** Calls `visit` with each process whose `variable` has a value that `matches`; not with this one or its ancestors. */
const forEach = async (
  variable: string,
  matches: (value: string) => boolean,
  visit: (pid: number) => void,
): Promise<void> => {
  const spared = lineage()
  let looked = 0
  for (const pid of pids()) {
    if (spared.has(pid)) continue
    if (++looked % slice === 0) await setImmediate()
    const value = environment(pid, variable)
    // Visited before anything else can run, so that the id still means the process that was looked at.
    if (value !== null && matches(value)) visit(pid)
  }
}

/** The processes whose environment has `variable` with a value that `matches`; not this one or its ancestors. */
export const find = async (variable: string, matches: (value: string) => boolean): Promise<ReadonlyArray<number>> => {
  const found: Array<number> = []
  await forEach(variable, matches, (pid) => found.push(pid))
  return found
}

/**
 * Kills the processes that `find` finds, again and again until there are none, since one may fork while it is looked
 * for. Resolves to how many it killed, and to whether some are left after 2 s.
 */
export const killWhere = async (
  variable: string,
  matches: (value: string) => boolean,
): Promise<{ readonly killed: number; readonly left: boolean }> => {
  const killed = new Set<number>()
  const until = Date.now() + killMillis
  for (;;) {
    let seen = 0
    await forEach(variable, matches, (pid) => {
      seen++
      killed.add(pid)
      try {
        process.kill(pid, "SIGKILL")
      } catch {
        // It ended by itself, or belongs to another user now: `left` tells the latter.
      }
    })
    if (seen === 0) return { killed: killed.size, left: false }
    if (Date.now() > until) return { killed: killed.size, left: true }
    await setTimeout(5)
  }
}
