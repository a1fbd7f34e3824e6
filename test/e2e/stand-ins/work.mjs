// A command that does what its prompt says, a JSON object: { text, chunks, millis, exit, stderr, ignoreTerm }.
// It writes a line at its start, and one at its end, to the file that WORK_LOG names.
import { appendFileSync } from "node:fs"

let input = ""
for await (const chunk of process.stdin) input += chunk
const { chunks = 1, exit = 0, ignoreTerm = false, millis = 0, stderr = "", text = "" } = JSON.parse(input)

const log = (event) => {
  if (process.env.WORK_LOG) {
    appendFileSync(process.env.WORK_LOG, `${JSON.stringify({ event, text, attempt: process.env.OFFLOAD_ATTEMPT })}\n`)
  }
}

log("start")
if (ignoreTerm) process.on("SIGTERM", () => {})
for (let chunk = 0; chunk < chunks; chunk++) {
  process.stdout.write(chunks === 1 ? text : `${text} ${chunk}\n`)
  await new Promise((resolve) => setTimeout(resolve, millis / chunks))
}
if (stderr !== "") process.stderr.write(stderr)
log("end")
process.exitCode = exit
