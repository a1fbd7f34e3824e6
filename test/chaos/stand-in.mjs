// The command line of the chaos tests: node stand-in.mjs <log>. It does what its prompt says, a JSON object:
// { text, chunks, millis, until, exit, stderr, env, tree }, where `stderr` is base64, so that it is no echo; and writes its own life to the log, one line each:
//   start <job>.<attempt> <who> <pid> <nanoseconds>    it lives
//   beat  …                                            it still lives, each 20 ms
//   end   …                                            it is about to end
// A line is appended by one write, and its time is the machine's monotonic clock, which no step of the wall clock
// moves. So a process lived at least from its first line to its last, however it was ended.
import { spawn } from "node:child_process"
import { existsSync, openSync, writeSync } from "node:fs"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"

const [log = "", who = "main", lifeMillis = "0"] = process.argv.slice(2)
const attempt = process.env.OFFLOAD_ATTEMPT?.split(":").at(-1) ?? "none"
const file = openSync(log, "a")
const note = (what) => writeSync(file, `${what} ${attempt} ${who} ${process.pid} ${process.hrtime.bigint()}\n`)

/** Another process of the tree: in a session of its own where `detached`. */
const more = (name, detached) =>
  spawn(process.execPath, [fileURLToPath(import.meta.url), log, name, "600000"], { detached, stdio: "ignore" }).unref()

const ignoreSignals = () => {
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, () => {})
}

note("start")
setInterval(() => note("beat"), 20).unref()

if (who !== "main") {
  // Nobody but SIGKILL ends these.
  ignoreSignals()
  await setTimeout(Number(lifeMillis))
  process.exit()
}

let prompt = ""
for await (const chunk of process.stdin) prompt += chunk
const {
  chunks = 1,
  env,
  exit = 0,
  millis = 0,
  stderr = "",
  text = "",
  tree = "",
  until,
} = JSON.parse(
  // A system prompt comes first.
  prompt.slice(prompt.indexOf("{")),
)

if (tree.includes("stubborn")) ignoreSignals()
if (tree.includes("child")) more("child", false)
if (tree.includes("daemon")) more("daemon", true)

for (let chunk = 0; chunk < chunks; chunk++) {
  process.stdout.write(chunks === 1 ? text : `${chunk} ${text}\n`)
  await setTimeout(millis / chunks)
}
while (until !== undefined && !existsSync(until)) await setTimeout(10)
if (env !== undefined) process.stdout.write(process.env[env] ?? "none")
if (stderr !== "") process.stderr.write(Buffer.from(stderr, "base64"))
process.exitCode = exit
note("end")
