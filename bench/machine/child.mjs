/** The program that every contender runs, and what its runs have written down. */
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const source = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url))

/** Compiles the program into a folder, where there is a compiler; answers its path. */
export const buildChild = (folder) => {
  const file = join(folder, "child")
  const { status } = spawnSync("cc", ["-O2", "-o", file, source("child.c")], { stdio: "ignore" })
  return status === 0 ? file : source("child.sh")
}

/** The children of one run of a contender. */
export class Children {
  #log
  #hold

  constructor(program, folder, millis) {
    this.#log = join(folder, "children.log")
    this.#hold = join(folder, "hold")
    rmSync(this.#log, { force: true })
    this.argv = [program, String(millis), this.#log, this.#hold]
  }

  /** From now on children do not end. */
  hold() {
    writeFileSync(this.#hold, "")
  }

  release() {
    rmSync(this.#hold, { force: true })
  }

  /** When each child started and ended so far, in milliseconds since the epoch, each list in its order. */
  times() {
    const lines = existsSync(this.#log) ? readFileSync(this.#log, "utf8").trim().split("\n") : []
    const of = (what) =>
      lines
        .filter((line) => line.startsWith(what))
        .map((line) => Number(line.split(" ")[1]) / 1e6)
        .sort((a, b) => a - b)
    return { starts: of("start"), ends: of("end") }
  }
}
