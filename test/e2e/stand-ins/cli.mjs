// A command line of somebody else, as far as a job sees it: node cli.mjs <name> <folder of fixtures> …its own options.
// The prompt says what it does: a fixture to write, or one of the deeds below.
import { spawn } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"

const [name = "", fixtures = ""] = process.argv.slice(2)
let prompt = ""
for await (const chunk of process.stdin) prompt += chunk
const [deed = "", argument = ""] = prompt.trim().split(/\s+/)

const write = async (fixture) => {
  const file = join(fixtures, name, `${fixture}.jsonl`)
  const soon = String(Math.floor(Date.now() / 1000) + Number(argument || 3600))
  const lines = existsSync(file) ? readFileSync(file, "utf8").replaceAll("1770003600", soon) : "the answer"
  for (const line of lines.split(/(?<=\n)/)) {
    process.stdout.write(line)
    await setTimeout(5)
  }
}

const shell = (script, options = {}) => spawn("/bin/sh", ["-c", script], { stdio: "ignore", ...options })

const deeds = {
  hang: async () => {
    process.stdout.write("\n")
    await setTimeout(600_000)
  },
  stubborn: async () => {
    for (const signal of ["SIGTERM", "SIGHUP", "SIGINT"]) process.on(signal, () => {})
    shell("trap '' TERM; while :; do sleep 1; done")
    await setTimeout(600_000)
  },
  children: async () => {
    shell("sleep 600 & sleep 600")
    await setTimeout(600_000)
  },
  // A daemon: its parent is gone at once, and it has a session of its own.
  daemon: async () => {
    shell("(setsid sh -c 'sleep 600; sleep 600' >/dev/null 2>&1 &) &", { detached: true }).unref()
    await setTimeout(600_000)
  },
  signal: async () => {
    process.kill(process.pid, argument)
    await setTimeout(600_000)
  },
}

await (deeds[deed] ?? (() => write(deed)))()
