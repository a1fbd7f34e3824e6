// A command that does what its prompt says, a JSON object:
// { text, chunks, millis, exit, stderr, ignoreTerm, until, first }.
// `until`: it goes on until there is such a file. `first`: its first attempt hangs after so many chunks.
import { existsSync } from "node:fs"
import { setTimeout } from "node:timers/promises"

let input = ""
for await (const chunk of process.stdin) input += chunk
const { chunks = 1, exit = 0, first, ignoreTerm = false, millis = 0, stderr = "", text = "", until } = JSON.parse(input)
const isFirst = process.env.OFFLOAD_ATTEMPT?.endsWith(".1") === true

if (ignoreTerm) process.on("SIGTERM", () => {})
for (let chunk = 0; chunk < chunks; chunk++) {
  if (isFirst && chunk === first) await setTimeout(600_000)
  process.stdout.write(chunks === 1 ? text : `${text} ${chunk}\n`)
  await setTimeout(millis / chunks)
}
while (until !== undefined && !existsSync(until)) await setTimeout(10)
if (stderr !== "") process.stderr.write(stderr)
process.exitCode = exit
