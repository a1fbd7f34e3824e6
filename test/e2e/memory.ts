/** The memory of a process of this machine, in megabytes. */
import { readFileSync } from "node:fs"

/** What it has resident now, and what it had at most. */
export const memoryOf = (pid: number): { readonly now: number; readonly peak: number } => {
  const status = readFileSync(`/proc/${pid}/status`, "utf8")
  const of = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) / 1024
  return { now: of("VmRSS"), peak: of("VmHWM") }
}
