/** What Linux tells of a process. */
import { readFileSync } from "node:fs"

/** Linux counts a process's time in hundredths of a second, whatever its kernel's own clock. */
const tickMicros = 10_000

/**
 * The processor time of a process so far, in microseconds: its own, and that of its children that have ended and were
 * waited for.
 */
export const cpuMicros = (pid) => {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  const ticks = (...positions) => positions.reduce((sum, at) => sum + Number(fields[at]), 0)
  return { own: ticks(11, 12) * tickMicros, children: ticks(13, 14) * tickMicros }
}

const megabytes = (pid, field) =>
  Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024

/** The resident memory of a process, in megabytes. */
export const rssMegabytes = (pid) => megabytes(pid, "VmRSS")

/** How much of it are pages of files, which the system takes back when it needs room. */
export const mappedMegabytes = (pid) => megabytes(pid, "RssFile")
