/**
 * The value of `OFFLOAD_ATTEMPT` in the environment of every process of an attempt:
 * `<installation>:<owner>:<attemptId>`. It is how a process is found again when its group and its parent are lost.
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

/** The identity of a service that runs in this process with its data in `folder`. */
export const identify = (folder: string): Identity => ({
  installation: createHash("sha256").update(resolve(folder)).digest("hex").slice(0, 16),
  owner: `${process.pid}.${startTime(process.pid) ?? 0}`,
})

/** The cookie of one attempt. */
export const make = ({ installation, owner }: Identity, attemptId: string): string =>
  `${installation}:${owner}:${attemptId}`

/**
 * Whether something was made by an earlier run of this installation that is no more. A run that still lives is left
 * alone: two workers of a fleet may share a folder.
 */
export const isAbandoned = ({ installation, owner }: Identity, theirs: Identity): boolean =>
  theirs.installation === installation && theirs.owner !== owner && !isAlive(theirs.owner)

/** Reads the installation and the owner out of a cookie. */
export const parse = (cookie: string): Identity | null => {
  const [installation, owner] = cookie.split(":")
  return installation === undefined || owner === undefined ? null : { installation, owner }
}

/** A process id alone is used again by the system; with its time of birth it names one process. */
const isAlive = (owner: string): boolean => {
  const [pid, born] = owner.split(".")
  return startTime(Number(pid)) === born
}
