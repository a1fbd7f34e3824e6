/** What can be seen of a service from outside, second by second: memory, descriptors, and how long an answer takes. */
import { memoryOf } from "../e2e/memory.js"
import type { Service } from "../e2e/Service.js"
import { descriptorsOf } from "../security/machine.js"

const everyMillis = 250

/** The most milliseconds for which an answer is waited. */
const tooLate = 30_000

export interface Report {
  /** The most that any of the processes had. */
  readonly megabytes: number
  readonly descriptors: number
  /** Of `GET /health/live`, in milliseconds, while no fault was made. */
  readonly p50: number
  readonly p99: number
  readonly slowest: number
}

const at = (sorted: ReadonlyArray<number>, share: number): number =>
  Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0)

export class Gauges {
  #megabytes = 0
  #descriptors = 0
  #delays: Array<number> = []
  #isOver = false
  readonly #work: Promise<unknown>
  /** How many faults are made now: what is stopped or dead has no delay that tells anything. */
  faults = 0

  constructor(readonly nodes: ReadonlyArray<Service>) {
    this.#work = Promise.all(nodes.map((node) => this.#follow(node)))
  }

  /** What was seen since the last report. */
  take(): Report {
    const delays = this.#delays.toSorted((a, b) => a - b)
    const report = {
      megabytes: this.#megabytes,
      descriptors: this.#descriptors,
      p50: at(delays, 0.5),
      p99: at(delays, 0.99),
      slowest: at(delays, 1),
    }
    this.#megabytes = 0
    this.#descriptors = 0
    this.#delays = []
    return report
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await this.#work
  }

  async #follow(node: Service): Promise<void> {
    while (!this.#isOver) {
      await Promise.all([this.#look(node), new Promise((resolve) => setTimeout(resolve, everyMillis))])
    }
  }

  async #look(node: Service): Promise<void> {
    try {
      // One that has ended, and is not waited for yet, has none.
      this.#megabytes = Math.max(this.#megabytes, Math.round(memoryOf(node.pid).now || 0))
      this.#descriptors = Math.max(this.#descriptors, descriptorsOf(node.pid).size)
      const isCalm = this.faults === 0
      const began = performance.now()
      await fetch(`${node.url}/health/live`, { signal: AbortSignal.timeout(tooLate) })
      if (isCalm && this.faults === 0) this.#delays.push(performance.now() - began)
    } catch {
      // It is dead, or was killed while it was asked.
    }
  }
}
