/**
 * The watchdog of a service: a program of its own, beside it. Reads a beat from standard input, again and again; when
 * the service is silent for too long, or gone, it kills every process of the service's attempts, so that none of them
 * lives on beside the attempt that another process begins in its place. Says on standard output how many it killed.
 *
 * Arguments: the owner of the attempts (see `Marker.ts`), milliseconds of silence.
 */
import { setTimeout } from "node:timers/promises"
import { isOwnedBy } from "./Marker.js"
import { killWhere } from "./Processes.js"

const [owner = "", silence = ""] = process.argv.slice(2)
const silenceMillis = Number(silence)

let heard = performance.now()
let gone = false
process.stdin.on("data", () => {
  heard = performance.now()
})
process.stdin.on("end", () => {
  gone = true
})
// It ends with its service, and not with the terminal or the group of that.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {})
process.stdout.on("error", () => {})

const isOwn = isOwnedBy(owner)

while (!gone) {
  await setTimeout(Math.max(1, Math.min(100, silenceMillis / 10)))
  if (performance.now() - heard < silenceMillis) continue
  const { killed } = await killWhere(isOwn)
  if (killed > 0) process.stdout.write(`${killed}\n`)
}
await killWhere(isOwn)
process.exit(0)
