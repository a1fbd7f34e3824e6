/**
 * What of the process's environment other processes can see. A process that was started with a secret in its
 * environment shows it in `/proc/<pid>/environ` to every process of its user for as long as it lives, whatever becomes
 * of `process.env`. So the values are overwritten where the kernel reads them. A child has only what it is given.
 */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs"

/** What was done. */
export interface Hidden {
  /** The environment as it was: the settings are read from it. */
  readonly environment: ReadonlyMap<string, string>
  /** The variables whose values other processes of this user can still read. */
  readonly visible: ReadonlyArray<string>
  /** Why, where there are any. */
  readonly reason: string
}

export interface Options {
  /** Variables that nothing needs once the settings are read: they are removed. */
  readonly secrets: ReadonlyArray<string>
  /** Variables that may be seen, since every command gets them. All others keep their values for this process alone. */
  readonly isCommon: (name: string) => boolean
}

/** One variable in the block that the process was started with. */
interface Entry {
  readonly name: string
  /** Where its value begins, in bytes from the beginning of the block. */
  readonly from: number
  readonly value: Buffer
}

const entriesOf = (block: Buffer): ReadonlyArray<Entry> => {
  const entries: Array<Entry> = []
  for (let start = 0; start < block.length; ) {
    const zero = block.indexOf(0, start)
    const end = zero === -1 ? block.length : zero
    const equals = block.indexOf("=", start)
    if (equals > start && equals < end) {
      const name = block.subarray(start, equals).toString()
      entries.push({ name, from: equals + 1, value: block.subarray(equals + 1, end) })
    }
    start = end + 1
  }
  return entries
}

/** Where the block stands: `env_start` and `env_end` of proc(5). They are 0 where the process may not know. */
const range = (): { readonly start: number; readonly end: number } => {
  const stat = readFileSync("/proc/self/stat", "latin1")
  // The second field is the name of the program, which may have blanks and brackets in it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return { start: Number(fields[50 - 3]), end: Number(fields[51 - 3]) }
}

const blockOf = (): Buffer => readFileSync("/proc/self/environ")

/** Overwrites values in the block, and nothing beside them. Throws where that is not possible. */
const overwrite = (entries: ReadonlyArray<Entry>, size: number): void => {
  const { end, start } = range()
  // A position that is no safe integer would not be taken as it is; the size tells that it is the block that was read.
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start <= 0 || end - start !== size) {
    throw new Error("the kernel does not say where the environment is")
  }
  const memory = openSync("/proc/self/mem", "r+")
  try {
    for (const { from, value } of entries) {
      const written = writeSync(memory, Buffer.alloc(value.length, "x"), 0, value.length, start + from)
      if (written !== value.length) throw new Error("the memory of the environment was not written as a whole")
    }
  } finally {
    closeSync(memory)
  }
}

/** A value of the process's environment that stands in the block is moved out of it by being set again. */
const keep = ({ name, value }: Entry): boolean => {
  const text = process.env[name]
  // One that is no UTF-8 could not be set again as it is.
  if (text === undefined || !Buffer.from(text).equals(value)) return text === undefined
  process.env[name] = text
  return true
}

const hasValue = ({ value }: Entry): boolean => value.length > 0

/**
 * Hides what is not common: secrets leave the process's environment; the other variables keep their values in it. Call
 * it once, before the first child is started. Never throws: what could not be hidden is `visible`.
 */
export const hide = ({ isCommon, secrets }: Options): Hidden => {
  const environment = new Map(
    Object.entries(process.env).flatMap(
      ([name, value]): ReadonlyArray<[string, string]> => (value === undefined ? [] : [[name, value]]),
    ),
  )
  const isSecret = (name: string) => secrets.includes(name)
  let reason = ""
  try {
    const block = blockOf()
    const entries = entriesOf(block).filter(
      (entry) => hasValue(entry) && (isSecret(entry.name) || !isCommon(entry.name)),
    )
    overwrite(
      entries.filter((entry) => isSecret(entry.name) || keep(entry)),
      block.length,
    )
  } catch (error) {
    reason = error instanceof Error ? error.message : String(error)
  }
  for (const name of secrets) delete process.env[name]
  return { environment, visible: visibleOf(environment, secrets, isCommon), reason }
}

/** What can be read of it now. Where there is no `/proc`, other programs (`ps e`) may show it all the same. */
const visibleOf = (
  environment: ReadonlyMap<string, string>,
  secrets: ReadonlyArray<string>,
  isCommon: (name: string) => boolean,
): ReadonlyArray<string> => {
  try {
    return entriesOf(blockOf())
      .filter((entry) => hasValue(entry) && !isCommon(entry.name))
      .filter(({ name, value }) => value.toString() === environment.get(name))
      .map(({ name }) => name)
  } catch {
    return secrets.filter((name) => (environment.get(name) ?? "") !== "")
  }
}
