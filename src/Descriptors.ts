/**
 * Open files of this process that a program which it starts would inherit: those without `O_CLOEXEC` (open(2)). Node
 * opens all of its own with it; what its parent left open, and what native code opens, may lack it.
 */
import { closeSync, constants, openSync, readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs"

const closesAtStarts = 0o2000000

const isInheritable = (descriptor: number): boolean => {
  try {
    const [, flags = "0"] = /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, "latin1")) ?? []
    return (Number.parseInt(flags, 8) & closesAtStarts) === 0
  } catch {
    // It was that of the look itself, or was closed since.
    return false
  }
}

/** All but the three standard ones. On a system without `/proc` it finds none. */
const inheritable = (): ReadonlyArray<number> => {
  try {
    return readdirSync("/proc/self/fd")
      .map(Number)
      .filter((descriptor) => descriptor > 2 && isInheritable(descriptor))
  } catch {
    return []
  }
}

/** Closes what the parent of this process left open. To be called before anything of this process is opened. */
export const closeInherited = (): void => {
  const channel = Number(process.env.NODE_CHANNEL_FD ?? -1)
  for (const descriptor of inheritable()) if (descriptor !== channel) closeSync(descriptor)
}

/**
 * Lets no child inherit a file that native code has just opened, for reading and writing, and does not use yet: opens
 * it again under the same number. Throws where another thread took that number meanwhile: native code must not go on.
 */
export const keepFromChildren = (file: string): void => {
  const path = realpathSync(file)
  for (const descriptor of inheritable()) {
    if (readlinkSync(`/proc/self/fd/${descriptor}`) === path) openAgain(descriptor, path)
  }
}

const openAgain = (descriptor: number, path: string): void => {
  const fillers: Array<number> = []
  try {
    // The system gives the lowest free number: afterwards that is the one which is closed.
    do fillers.push(openSync("/dev/null", "r"))
    while ((fillers.at(-1) ?? 0) < descriptor)
    closeSync(descriptor)
    const again = openSync(path, constants.O_RDWR)
    if (again !== descriptor) throw new Error(`the descriptor ${descriptor} of '${path}' was taken by another thread`)
  } finally {
    for (const filler of fillers) closeSync(filler)
  }
}
