/** A contender as a running server, with children and a database of its own. */
import { spawn } from "node:child_process"
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Children } from "./machine/child.mjs"
import { startPostgres } from "./machine/postgres.mjs"
import { cpuMicros, mappedMegabytes, rssMegabytes } from "./machine/process.mjs"
import { startRedis } from "./machine/redis.mjs"
import { freePort, until } from "./machine/wait.mjs"

const loop = new URL("./machine/loop.mjs", import.meta.url)

const startDatabase = async (keeps, folder) => {
  if (keeps === "redis") return await startRedis(join(folder, "redis"))
  if (keeps === "postgres") return await startPostgres()
  return null
}

const variable = { redis: "REDIS_URL", postgres: "DATABASE_URL" }

/** Whoever is still running, so that an interrupted benchmark leaves nothing behind. */
const running = new Set()

export class Server {
  #child
  #log = ""

  constructor(contender, folder, children, database, port) {
    Object.assign(this, { contender, folder, children, database, url: `http://127.0.0.1:${port}`, port })
  }

  /** Starts a contender whose children last `millis`, in a new folder with an empty database. */
  static async start(contender, { program, millis = 0, hold = false, measuresLoop = false }) {
    const folder = mkdtempSync(join(tmpdir(), "offload-bench-"))
    const children = new Children(program, folder, millis)
    if (hold) children.hold()
    const database = await startDatabase(contender.keeps, folder)
    const server = new Server(contender, folder, children, database, await freePort())
    server.measuresLoop = measuresLoop && contender.isNode
    running.add(server)
    try {
      server.launch()
      await server.isUp()
      return server
    } catch (error) {
      await server.stop()
      throw error
    }
  }

  /** Starts its process, also once more, with the data that it has. */
  launch() {
    const { argv, env, keeps } = this.contender
    const [command, ...args] = argv
    mkdirSync(join(this.folder, "home"), { recursive: true })
    // Whoever has a log writes it to a file.
    const log = openSync(join(this.folder, "log"), "a")
    // A group of its own: its children end with it.
    const child = spawn(command, args, {
      cwd: this.folder,
      detached: true,
      stdio: ["ignore", log, "pipe"],
      env: {
        PATH: process.env.PATH,
        HOME: join(this.folder, "home"),
        NODE_ENV: "production",
        PYTHONDONTWRITEBYTECODE: "1",
        PORT: String(this.port),
        ...(this.database === null ? {} : { [variable[keeps]]: this.database.url }),
        ...env(this),
        ...(this.measuresLoop ? { NODE_OPTIONS: `--import ${loop}`, BENCH_LOOP: join(this.folder, "loop") } : {}),
      },
    })
    closeSync(log)
    child.stderr.on("data", (chunk) => {
      this.#log += chunk
    })
    this.#child = child
  }

  async isUp() {
    await until(
      async () => {
        const { exitCode } = this.#child
        if (exitCode !== null) throw new Error(`${this.contender.title} exited with ${exitCode}:\n${this.#log}`)
        return await fetch(`${this.url}/health/live`).then(
          ({ ok }) => ok,
          () => false,
        )
      },
      () => `${this.contender.title} does not listen:\n${this.#log}`,
    )
  }

  cpu() {
    return cpuMicros(this.#child.pid)
  }

  /** The processor time of its redis-server, in microseconds; 0 without one. */
  databaseCpu() {
    return this.contender.keeps === "redis" ? cpuMicros(this.database.pid).own : 0
  }

  rss() {
    return rssMegabytes(this.#child.pid)
  }

  mapped() {
    return mappedMegabytes(this.#child.pid)
  }

  /** The delay of its event loop since the last time that it was asked for. */
  async loopDelay() {
    const file = join(this.folder, "loop")
    rmSync(file, { force: true })
    process.kill(this.#child.pid, "SIGUSR2")
    let found
    await until(() => {
      try {
        found = JSON.parse(readFileSync(file, "utf8"))
      } catch {
        return false
      }
      return true
    })
    return found
  }

  /** Ends its processes at once. */
  async kill() {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((resolve) => child.once("exit", resolve))
    try {
      process.kill(-child.pid, "SIGKILL")
    } catch (error) {
      if (error.code !== "ESRCH") throw error
    }
    await gone
  }

  async stop() {
    running.delete(this)
    this.children.release()
    await this.kill()
    await this.database?.stop()
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

export const stopAll = () => Promise.all([...running].map((server) => server.stop()))
