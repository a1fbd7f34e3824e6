/**
 * Limits that the system holds each process of an attempt to, set by `prlimit` (util-linux).
 */
import type { Limits } from "../OffloadConfig.js"
import type { Argv } from "./Containment.js"

/** The command that sets limits, to be found on PATH. */
export const prlimit = "prlimit"

const options: Readonly<Record<keyof Limits, string>> = {
  memoryBytes: "as",
  cpuSeconds: "cpu",
  fileBytes: "fsize",
  openFiles: "nofile",
}

const isLimit = (name: string): name is keyof Limits => name in options

/** Runs a command within limits; as it is, where there are none. */
export const limited = (limits: Limits, argv: Argv): Argv => {
  const args = Object.entries(limits).flatMap(([name, value]) =>
    isLimit(name) && value !== undefined ? [`--${options[name]}=${value}`] : [],
  )
  return args.length === 0 ? argv : [prlimit, ...args, "--", ...argv]
}
