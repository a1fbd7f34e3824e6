/**
 * Limits that the system holds the processes of an attempt to. The shell of its sandbox sets them (`ulimit`), before it
 * becomes the command.
 */
import type { Limits } from "../OffloadConfig.js"

/** Units of `ulimit`, in bytes: of memory, and of files. */
const kibibyte = 1024
const block = 512

const upTo = (bytes: number, unit: number): number => Math.ceil(bytes / unit)

/** One line of shell for each limit. A limit that cannot be set ends the shell. */
export const limitLines = ({ cpuSeconds, fileBytes, memoryBytes, openFiles }: Limits): ReadonlyArray<string> => [
  ...(memoryBytes === undefined ? [] : [`ulimit -v ${upTo(memoryBytes, kibibyte)} || exit`]),
  ...(cpuSeconds === undefined ? [] : [`ulimit -t ${cpuSeconds} || exit`]),
  ...(fileBytes === undefined ? [] : [`ulimit -f ${upTo(fileBytes, block)} || exit`]),
  ...(openFiles === undefined ? [] : [`ulimit -n ${openFiles} || exit`]),
]

/** The number of processes: `-u` in some shells, `-p` in others, where it means the other of two things. */
export const processesLine = (processes: number): string =>
  `ulimit -u ${processes} 2>/dev/null || ulimit -p ${processes} || exit`
