/** A redis-server of the benchmark's own, as durable for every contender that uses it: AOF, synced each second. */
import { spawn, spawnSync } from "node:child_process"
import { mkdirSync } from "node:fs"
import { freePort, until } from "./wait.mjs"

export const persistence = 'appendonly yes, appendfsync everysec, save ""'

export const hasRedis = spawnSync("redis-server", ["--version"]).status === 0

/** Starts one with its data in a folder. */
export const startRedis = async (folder) => {
  mkdirSync(folder, { recursive: true })
  const port = await freePort()
  const child = spawn(
    "redis-server",
    [
      ...["--port", String(port), "--bind", "127.0.0.1", "--dir", folder],
      ...["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"],
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  )
  let log = ""
  child.stdout.on("data", (chunk) => {
    log += chunk
  })
  await until(
    () => log.includes("Ready to accept connections"),
    () => `redis-server does not start:\n${log}`,
  )
  return { url: `redis://127.0.0.1:${port}`, pid: child.pid, stop: () => child.kill("SIGKILL") }
}
