/** A Redis for tests: one of their own where it is installed, else that of `REDIS_URL`, else none. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { waitUntil } from "../e2e/Service.js"
import { freePort } from "../freePort.js"

/** Whether tests can have one that they may break. */
export const isInstalled = spawnSync("redis-server", ["--version"]).status === 0

/** Whether tests can have one. In CI they must. */
export const hasRedis = isInstalled || process.env.REDIS_URL !== undefined

if (!hasRedis) {
  const reason = "no redis-server on this machine and no REDIS_URL: the tests of the Redis store cannot run"
  if (process.env.CI !== undefined) throw new Error(reason)
  console.info(reason)
}

export class RedisServer {
  readonly #folder = mkdtempSync(join(tmpdir(), "offload-redis-"))
  #child: ChildProcess | undefined
  #port = 0

  constructor(readonly options: ReadonlyArray<string> = []) {}

  get url(): string {
    return isInstalled ? `redis://127.0.0.1:${this.#port}` : (process.env.REDIS_URL ?? "")
  }

  async start(): Promise<this> {
    if (!isInstalled) return this
    if (this.#port === 0) this.#port = await freePort()
    const child = spawn(
      "redis-server",
      [
        ...["--port", String(this.#port), "--bind", "127.0.0.1", "--dir", this.#folder],
        ...["--save", "", "--appendonly", "yes", "--appendfsync", "always", ...this.options],
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    )
    this.#child = child
    let log = ""
    child.stdout.on("data", (chunk) => {
      log += chunk
    })
    await waitUntil(
      () => log.includes("Ready to accept connections"),
      () => `redis-server does not start:\n${log}`,
    )
    return this
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  async kill(): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = new Promise((resolve) => child.once("exit", resolve))
    child.kill("SIGKILL")
    await exited
  }

  /** Forgets what it has kept. It must not run. */
  wipe(): void {
    rmSync(this.#folder, { recursive: true, force: true })
    mkdirSync(this.#folder)
  }

  async dispose(): Promise<void> {
    await this.kill()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
