/** Which process owns a store, told from every other one, and whether it still lives. */
import { readFileSync, readlinkSync } from "node:fs"
import { Option, Schema } from "effect"

/** Which process it is, even after its number was given to another. What the system does not tell is `null`. */
export const Process = Schema.Struct({
  pid: Schema.Number,
  /** When it started, in clock ticks since the boot. */
  startedTicks: Schema.NullOr(Schema.String),
  bootId: Schema.NullOr(Schema.String),
  pidNamespace: Schema.NullOr(Schema.String),
})
export type Process = typeof Process.Type

export const decodeProcess = Schema.decodeUnknownEither(Schema.parseJson(Process))

/** Of processes of the same boot. `null`: it cannot be seen from here. */
export const isAlive = (owner: Process, own: Process): boolean | null => {
  if (owner.pidNamespace !== own.pidNamespace) return null
  const ticks = startedTicks(owner.pid)
  if (own.startedTicks !== null) return ticks !== null && ticks === owner.startedTicks
  return answersSignal(owner.pid)
}

export const ownProcess = (): Process => ({
  pid: process.pid,
  startedTicks: startedTicks(process.pid),
  bootId: orNull(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()),
  pidNamespace: orNull(() => readlinkSync("/proc/self/ns/pid")),
})

/** `null`: there is no such process, or it is a zombie, or the system has no /proc. */
const startedTicks = (pid: number): string | null => {
  const stat = orNull(() => readFileSync(`/proc/${pid}/stat`, "utf8"))
  // The second field is the command in brackets, which may hold anything; the third is the state.
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ") ?? []
  return fields[0] === "Z" || fields[0] === "X" ? null : (fields[19] ?? null)
}

const answersSignal = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM"
  }
}

/** For /proc, where a failure says that something is not there. */
const orNull = (read: () => string): string | null => Option.getOrNull(Option.liftThrowable(read)())
