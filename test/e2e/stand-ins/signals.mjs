// A command that writes each signal that it gets to a file, and ends when there is the file `until`, or by SIGTERM if it
// is not `stubborn`. Its prompt is a JSON object: { log, until, stubborn }.
import { appendFileSync, existsSync } from "node:fs"
import { setTimeout } from "node:timers/promises"

let input = ""
for await (const chunk of process.stdin) input += chunk
const { log, stubborn, until } = JSON.parse(input)
for (const signal of ["SIGINT", "SIGHUP", "SIGTERM"]) {
  process.on(signal, () => {
    appendFileSync(log, `${signal}\n`)
    if (signal === "SIGTERM" && !stubborn) process.exit(1)
  })
}
process.stdout.write("begun")
while (!existsSync(until)) await setTimeout(10)
