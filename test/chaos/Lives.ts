/**
 * What the stand-ins say of themselves (see `stand-in.mjs`), and nothing of what the service says: a process is taken
 * to have lived from its first line to its last, which is never too long. So what is found here did happen.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

/** One process of an attempt. Times are milliseconds of the machine's monotonic clock. */
export interface Life {
  readonly job: string
  readonly attempt: number
  /** `main`, or the name of another process of its tree. */
  readonly who: string
  readonly from: number
  readonly to: number
  /** Whether it has ended by itself. */
  readonly ended: boolean
}

/** The clock of the log. */
export const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6

export class Lives {
  readonly #folder = mkdtempSync(join(tmpdir(), "offload-chaos-"))
  readonly file = join(this.#folder, "lives")
  #text = ""

  constructor() {
    writeFileSync(this.file, "")
  }

  /** The settings of a service whose command line is the stand-in. */
  get env(): { readonly OFFLOAD_LLM: string; readonly OFFLOAD_LLM_COMMAND: string } {
    return { OFFLOAD_LLM: "command", OFFLOAD_LLM_COMMAND: JSON.stringify(this.command) }
  }

  /** The argv of the stand-in. */
  get command(): ReadonlyArray<string> {
    return [process.execPath, fileURLToPath(new URL("stand-in.mjs", import.meta.url)), this.file]
  }

  /** Every process that has lived so far. */
  read(): ReadonlyArray<Life> {
    this.#text = readFileSync(this.file, "utf8")
    const lives = new Map<string, Life>()
    // A line whose end is not there yet is no line.
    for (const line of this.#text.split("\n").slice(0, -1)) {
      const [what = "", id = "", who = "", pid = "", nanos = ""] = line.split(" ")
      const at = Number(nanos) / 1e6
      // Process ids are those of the attempt's own namespace.
      const key = `${id} ${who} ${pid}`
      const begun = lives.get(key)
      const [job = "", attempt = ""] = id.split(".")
      const life = begun ?? { job, attempt: Number(attempt), who, from: at, to: at, ended: false }
      lives.set(key, { ...life, to: at, ended: life.ended || what === "end" })
    }
    return [...lives.values()]
  }

  of(job: string): ReadonlyArray<Life> {
    return this.read().filter((life) => life.job === job)
  }

  dispose(): void {
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** The attempts that were alive at one moment, when they were most: each with whatever of its tree lived longest. */
export const most = (lives: ReadonlyArray<Life>): ReadonlyArray<string> => {
  const attempts = new Map<string, { from: number; to: number }>()
  for (const { attempt, from, job, to } of lives) {
    const key = `${job}.${attempt}`
    const known = attempts.get(key) ?? { from, to }
    attempts.set(key, { from: Math.min(known.from, from), to: Math.max(known.to, to) })
  }
  // At the same moment an end counts before a start: they need not have met.
  const turns = [...attempts]
    .filter(([, { from, to }]) => from < to)
    .flatMap(([key, { from, to }]) => [
      { key, at: from, begins: true },
      { key, at: to, begins: false },
    ])
    .sort((a, b) => a.at - b.at || Number(a.begins) - Number(b.begins))
  const now = new Set<string>()
  let most: ReadonlyArray<string> = []
  for (const { begins, key } of turns) {
    if (begins) now.add(key)
    else now.delete(key)
    if (now.size > most.length) most = [...now]
  }
  return most
}
