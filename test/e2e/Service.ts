/** The built program as a child process, and the verbs of a test on it. */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const main = fileURLToPath(new URL("../../dist/bundle/main.js", import.meta.url))

/** A script of the folder `stand-ins`, as an argv. */
export const standIn = (name: string, ...args: ReadonlyArray<string>): ReadonlyArray<string> => [
  process.execPath,
  fileURLToPath(new URL(`stand-ins/${name}.mjs`, import.meta.url)),
  ...args,
]

/** A JSON value that came over the wire, to be looked into by a test. */
// biome-ignore lint/suspicious/noExplicitAny: what a test expects of it is the check.
export type Json = any

export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly body: Json
}

export class Service {
  readonly data = mkdtempSync(join(tmpdir(), "offload-test-"))
  #child: ChildProcess | undefined
  #log = ""
  #url = ""

  /** `wrapper`: what the service is started by, such as `setpriv` with its options; it becomes the service. */
  constructor(
    readonly env: Readonly<Record<string, string>> = {},
    readonly wrapper: ReadonlyArray<string> = [],
  ) {}

  get url(): string {
    return this.#url
  }

  /** The process id of its newest run. */
  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** Everything that all its runs have logged. */
  get log(): string {
    return this.#log
  }

  get lines(): ReadonlyArray<Json> {
    return this.#log
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line))
  }

  /** Starts it on a free port and waits until it says that it listens. `env` counts for this run alone. */
  async start(env: Readonly<Record<string, string>> = {}): Promise<this> {
    let output = ""
    const [command = process.execPath, ...args] = [...this.wrapper, process.execPath, main]
    const child = spawn(command, args, {
      cwd: this.data,
      env: {
        PATH: process.env.PATH,
        HOME: this.data,
        PORT: "0",
        OFFLOAD_DATA: join(this.data, "data"),
        OFFLOAD_LLM: "demo",
        OFFLOAD_RETRY_BASE_SECONDS: "0.05",
        OFFLOAD_RETRY_MAX_SECONDS: "0.2",
        OFFLOAD_KILL_GRACE_SECONDS: "1",
        ...this.env,
        ...env,
      },
    })
    this.#child = child
    const take = (chunk: Buffer) => {
      output += chunk.toString()
      this.#log += chunk.toString()
    }
    child.stdout.on("data", take)
    child.stderr.on("data", take)
    await waitUntil(
      () => {
        const address = /listening on (http:\/\/[^"\s]+)/.exec(output)?.[1]
        if (address !== undefined) this.#url = address
        if (child.exitCode !== null || child.signalCode !== null) throw new Error(`it did not start:\n${output}`)
        return address !== undefined
      },
      () => `it does not listen:\n${output}`,
      60,
    )
    return this
  }

  /** Kills the service itself with SIGKILL; its jobs' processes are its own affair. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL")
  }

  /** Asks it to stop and answers its exit code. */
  async stop(): Promise<number | null> {
    return await this.#end("SIGTERM")
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  /** Types at its terminal, where the wrapper makes one. */
  type(text: string): void {
    this.#child?.stdin?.write(text)
  }

  /** Its exit code, once it has ended; `null` where a signal has ended it. */
  async exit(): Promise<number | null> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null
    return await new Promise((resolve) => child.once("exit", resolve))
  }

  /** Ends it however it is, and removes its data. */
  async dispose(): Promise<void> {
    await this.kill()
    rmSync(this.data, { recursive: true, force: true })
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const exit = this.exit()
    this.#child?.kill(signal)
    return await exit
  }

  async call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    })
    const text = await response.text()
    const isJson = response.headers.get("content-type")?.includes("json") === true
    return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text }
  }

  submit(prompt: string, more: Record<string, unknown> = {}, headers: Record<string, string> = {}): Promise<Answer> {
    return this.call("POST", "/jobs", { prompt, ...more }, headers)
  }

  /** The job, once it has ended. */
  async ended(id: string, seconds = 60, headers: Record<string, string> = {}): Promise<Json> {
    let job: Json
    await waitUntil(
      async () => {
        job = (await this.call("GET", `/jobs/${id}`, undefined, headers)).body
        return ["succeeded", "failed", "cancelled"].includes(job.status)
      },
      () => `the job has not ended: ${JSON.stringify(job)}`,
      seconds,
    )
    return job
  }
}

/** Waits for a condition, and fails with a reason when it does not come about. */
export const waitUntil = async (
  condition: () => boolean | Promise<boolean>,
  reason: () => string = () => "it did not come about in time",
  seconds = 60,
): Promise<void> => {
  const end = Date.now() + seconds * 1000
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(reason())
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** The processes of this machine in whose environment a string stands. */
export const processesWith = (text: string): ReadonlyArray<number> =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`).includes(text)
      } catch {
        return false
      }
    })
    .map(Number)
