/** Several processes on one Redis, asked as one: each call goes to any of those that can answer. */
import { type Answer, type Json, Service, waitUntil } from "../e2e/Service.js"

const terminal: ReadonlyArray<string> = ["succeeded", "failed", "cancelled"]

/** How long a call may take, in milliseconds: one that is stopped while it is asked answers nothing. */
const callMillis = 20_000

export class Fleet {
  readonly nodes: ReadonlyArray<Service>
  /** Those that nobody is to be sent to, since they are stopped or dead. */
  readonly away = new Set<Service>()
  #next = 0

  constructor(size: number, env: Readonly<Record<string, string>>) {
    this.nodes = Array.from({ length: size }, () => new Service(env))
  }

  async start(): Promise<this> {
    await Promise.all(this.nodes.map((node) => node.start()))
    return this
  }

  async dispose(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.dispose()))
  }

  get log(): string {
    return this.nodes.map(({ log }) => log).join("\n---\n")
  }

  async call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    return await this.#ask((node) => node.call(method, path, body, headers))
  }

  async submit(prompt: string, more: Record<string, unknown> = {}, headers: Record<string, string> = {}) {
    return await this.#ask((node) => node.submit(prompt, more, headers))
  }

  async ended(id: string, seconds = 30): Promise<Json> {
    let job: Json
    await waitUntil(
      async () => {
        job = (await this.call("GET", `/jobs/${id}`)).body
        return terminal.includes(job.status)
      },
      () => `the job has not ended: ${JSON.stringify(job)}\n${this.log.slice(-6000)}`,
      seconds,
    )
    return job
  }

  async #ask<A>(call: (node: Service) => Promise<A>): Promise<A> {
    const able = this.nodes.filter((node) => !this.away.has(node))
    const node = able[this.#next++ % able.length]
    if (node === undefined) throw new Error("nobody is there")
    let timer: NodeJS.Timeout | undefined
    const tooLate = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("no answer in time")), callMillis)
    })
    try {
      return await Promise.race([call(node), tooLate])
    } finally {
      clearTimeout(timer)
    }
  }
}
