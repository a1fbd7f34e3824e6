/**
 * Offload beside its peers: `npm run bench`. Each measure is taken of each contender in turn, in several rounds.
 *
 * --rounds=3  --only=offload,bullmq (contenders)  --measures=accept,finish  --json=FILE
 * --short: only checks that all of this works, and fails on no timing. Every contender finishes a few jobs; the other
 *   measures are taken of the first one alone.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { cpus, release, tmpdir, totalmem } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { contenders } from "./contenders.mjs"
import { buildChild } from "./machine/child.mjs"
import { persistence } from "./machine/redis.mjs"
import { accept } from "./measures/accept.mjs"
import { finish } from "./measures/finish.mjs"
import { live } from "./measures/live.mjs"
import { readers } from "./measures/readers.mjs"
import { start } from "./measures/start.mjs"
import { waiting } from "./measures/waiting.mjs"
import { stopAll } from "./server.mjs"
import { table } from "./table.mjs"

const measures = { accept, finish, live, start, waiting, readers }

const { values } = parseArgs({
  options: {
    short: { type: "boolean", default: false },
    rounds: { type: "string" },
    only: { type: "string" },
    measures: { type: "string" },
    json: { type: "string" },
  },
})

/** The chosen ones of a table. A name that it has not is refused. */
const choose = (all, names) => {
  if (names === undefined) return Object.entries(all)
  return names.split(",").map((name) => {
    if (!Object.hasOwn(all, name)) throw new Error(`'${name}' is not among ${Object.keys(all).join(", ")}`)
    return [name, all[name]]
  })
}

const available = async () => {
  const found = []
  for (const [name, contender] of choose(contenders, values.only)) {
    const why = await contender.why()
    if (why === null) found.push([name, contender])
    else console.log(`- without ${contender.title}: ${why}`)
  }
  return found
}

const main = async () => {
  const folder = mkdtempSync(join(tmpdir(), "offload-bench-"))
  const program = buildChild(folder)
  const rounds = values.short ? 1 : Number(values.rounds ?? 3)
  const machine = {
    cpu: `${cpus().length} × ${cpus()[0].model}`,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    child: program.endsWith(".sh") ? "a shell script" : "compiled",
    redis: persistence,
    rounds,
  }
  for (const [what, value] of Object.entries(machine)) console.log(`- ${what}: ${value}`)
  const found = await available()
  console.log("")

  const results = {}
  const failures = []
  for (const [name, measure] of choose(measures, values.measures)) {
    results[name] = {}
    for (let round = 0; round < (measure.once ? 1 : rounds); round++) {
      const part = found.filter(([, contender]) => measure.takesPart(contender))
      for (const [who, contender] of values.short && !measure.everybody ? part.slice(0, 1) : part) {
        try {
          const figures = await measure.run(contender, { program, short: values.short })
          results[name][who] = [...(results[name][who] ?? []), figures]
        } catch (error) {
          failures.push(`${contender.title}, ${name}: ${error.stack}`)
        }
      }
    }
    const titles = Object.fromEntries(found.map(([who, { title }]) => [who, title]))
    console.log(table(measure, results[name], titles))
  }
  rmSync(folder, { recursive: true, force: true })
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine, results }, null, 2)}\n`)
  if (failures.length > 0) {
    console.error(`${failures.length} measurements failed:\n\n${failures.join("\n\n")}`)
    process.exitCode = 1
  }
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    stopAll().finally(() => process.exit(130))
  })
}
await main()
