/**
 * What every process of an attempt carries, so that it is found again when its group and its parent are lost.
 *
 * - The cookie: `OFFLOAD_ATTEMPT` in its environment, `<installation>:<owner>:<attemptId>`.
 * - The mark: a resource limit that limits nothing (`RLIMIT_RTTIME`, of real-time scheduling alone, in setrlimit(2)),
 *   with a number that says the same. A process that clears its environment and leaves its session still has it; one
 *   that means to hide may lower it.
 */
import { createHash } from "node:crypto"
import { resolve } from "node:path"
import { startTime } from "./Procfs.js"

/** The environment variable that carries the cookie. */
export const variable = "OFFLOAD_ATTEMPT"

/** What tells this service's processes and folders from those of any other on the machine. */
export interface Identity {
  /** A hash of the absolute path of `OFFLOAD_DATA`: the same at every start of this service. */
  readonly installation: string
  /** The running service itself: its process id and the time that process began. */
  readonly owner: string
}

/** What was found on a process. */
export interface Marks {
  readonly cookie: string | null
  readonly mark: bigint | null
}

/** The identity of a service that runs in this process with its data in `folder`. */
export const identify = (folder: string): Identity => ({
  installation: createHash("sha256").update(resolve(folder)).digest("hex").slice(0, 16),
  owner: `${process.pid}.${startTime(process.pid) ?? 0}`,
})

/** The cookie of one attempt. */
export const makeCookie = ({ installation, owner }: Identity, attemptId: string): string =>
  `${installation}:${owner}:${attemptId}`

/** Bits of a mark, from the highest: `tag` 1, installation 14, process id 22, start time 16, sequence 10. */
const tag = 1n << 62n
const bits = { installation: 14n, pid: 22n, start: 16n, sequence: 10n }

const low = (value: bigint, count: bigint): bigint => value & ((1n << count) - 1n)

const prefixOf = ({ installation, owner }: Identity): bigint => {
  const [pid = "0", start = "0"] = owner.split(".")
  return (
    (low(BigInt(`0x${installation}`), bits.installation) << (bits.pid + bits.start)) |
    (low(BigInt(pid), bits.pid) << bits.start) |
    low(BigInt(start), bits.start)
  )
}

/** The mark of the service's sandbox number `sequence`. */
export const makeMark = (identity: Identity, sequence: number): bigint =>
  tag | (prefixOf(identity) << bits.sequence) | low(BigInt(sequence), bits.sequence)

const isMark = (mark: bigint | null): mark is bigint => mark !== null && mark >> 62n === 1n

/** Whether a process belongs to one sandbox: by the cookie of its attempt or by its mark. */
export const isOf =
  (cookie: string, mark: bigint) =>
  (found: Marks): boolean =>
    found.cookie === cookie || found.mark === mark

/** Whether a process belongs to an attempt of the service that runs as `owner`. */
export const isOwnedBy =
  (owner: string) =>
  ({ cookie, mark }: Marks): boolean => {
    if (cookie !== null && parse(cookie)?.owner === owner) return true
    // The installation is not known here: the process id and its start name the owner.
    const count = bits.pid + bits.start
    const own = low(prefixOf({ installation: "0", owner }), count)
    return isMark(mark) && low(mark >> bits.sequence, count) === own
  }

/**
 * Whether a process was started by an earlier run of this installation that has ended. A run that still lives is left
 * alone: two workers of a fleet may share a folder.
 */
export const isLeftBehind =
  (identity: Identity) =>
  ({ cookie, mark }: Marks): boolean => {
    const theirs = cookie === null ? null : parse(cookie)
    return (theirs !== null && isAbandoned(identity, theirs)) || (isMark(mark) && isAbandonedMark(identity, mark))
  }

/** Whether something was made by an earlier run of this installation that has ended. */
export const isAbandoned = ({ installation, owner }: Identity, theirs: Identity): boolean =>
  theirs.installation === installation && theirs.owner !== owner && !isAlive(theirs.owner)

const isAbandonedMark = (identity: Identity, mark: bigint): boolean => {
  const prefix = low(mark >> bits.sequence, bits.installation + bits.pid + bits.start)
  const own = prefixOf(identity)
  if (prefix === own || prefix >> (bits.pid + bits.start) !== own >> (bits.pid + bits.start)) return false
  const born = startTime(Number(low(prefix >> bits.start, bits.pid)))
  return born === undefined || low(BigInt(born), bits.start) !== low(prefix, bits.start)
}

/** Reads the installation and the owner out of a cookie. */
const parse = (cookie: string): Identity | null => {
  const [installation, owner] = cookie.split(":")
  return installation === undefined || owner === undefined ? null : { installation, owner }
}

/** A process id alone is used again by the system; with its time of birth it names one process. */
const isAlive = (owner: string): boolean => {
  const [pid, born] = owner.split(".")
  return startTime(Number(pid)) === born
}
