/**
 * The watchdog of a service: a program of its own, beside it. Reads lines from standard input: an empty one is a beat,
 * any other is a question. When the service is silent for too long, or gone, it kills every process of the service's
 * attempts, so that none of them lives on beside the attempt that another process begins in its place.
 *
 * It writes lines to standard output, in the order in which things happened, with times of the machine's monotonic
 * clock in nanoseconds:
 * - `killing <time>`: it begins to kill;
 * - `killed <count> <time>`: it has killed so many processes;
 * - `answer <question>`: what came before the question has been told.
 *
 * Arguments: the owner of the attempts (see `Marker.ts`), milliseconds of silence.
 */
import { createInterface } from "node:readline"
import { setTimeout } from "node:timers/promises"
import { isOwnedBy } from "./Marker.js"
import { killWhere } from "./Processes.js"

const [owner = "", silence = ""] = process.argv.slice(2)
const silenceMillis = Number(silence)

let heard = performance.now()
let gone = false
const say = (line: string) => process.stdout.write(`${line}\n`)
const lines = createInterface({ input: process.stdin })
lines.on("line", (line) => {
  heard = performance.now()
  if (line !== "") say(`answer ${line}`)
})
lines.on("close", () => {
  gone = true
})
// It ends with its service, and not with the terminal or the group of that.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {})
process.stdout.on("error", () => {})

const isOwn = isOwnedBy(owner)

/** Told before the first kill: who finds its command dead can ask whether it was this. */
const killAll = async (): Promise<void> => {
  say(`killing ${process.hrtime.bigint()}`)
  const { killed } = await killWhere(isOwn)
  say(`killed ${killed} ${process.hrtime.bigint()}`)
}

while (!gone) {
  await setTimeout(Math.max(1, Math.min(100, silenceMillis / 10)))
  if (performance.now() - heard >= silenceMillis) await killAll()
}
await killWhere(isOwn)
process.exit(0)
