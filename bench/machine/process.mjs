/** What Linux tells of a process. */
import { readdirSync, readFileSync } from "node:fs"

/** Linux counts a process's time in hundredths of a second, whatever its kernel's own clock. */
const tickMicros = 10_000

/** What `/proc/<pid>/stat` tells after the name; `null` of a process that is no more. */
const stat = (pid) => {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1")
    return text
      .slice(text.lastIndexOf(")") + 2)
      .split(" ")
      .map(Number)
  } catch {
    return null
  }
}

/** The processes that a process has started, and those that these have started, as far as they live. */
const descendants = (pid) => {
  const parents = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => [Number(name), stat(name)?.[1]])
  const below = (parent) => parents.filter(([, of]) => of === parent).flatMap(([child]) => [child, ...below(child)])
  return below(pid)
}

/**
 * The processor time of a process so far, in microseconds: its own, and that of what it has started: those that have
 * ended and were waited for, and those that live.
 */
export const cpuMicros = (pid) => {
  const ticks = (of, ...positions) => {
    const fields = stat(of)
    return fields === null ? 0 : positions.reduce((sum, at) => sum + fields[at], 0)
  }
  const living = descendants(pid).reduce((sum, child) => sum + ticks(child, 11, 12, 13, 14), 0)
  return { own: ticks(pid, 11, 12) * tickMicros, children: (ticks(pid, 13, 14) + living) * tickMicros }
}

const megabytes = (pid, field) =>
  Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024

/** The resident memory of a process, in megabytes. */
export const rssMegabytes = (pid) => megabytes(pid, "VmRSS")

/** How much of it are pages of files, which the system takes back when it needs room. */
export const mappedMegabytes = (pid) => megabytes(pid, "RssFile")
