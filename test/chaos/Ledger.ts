/**
 * The independent checker: it knows what was asked of the service, what the service answered, and what the stand-ins
 * say of themselves, and nothing else.
 */
import { randomUUID } from "node:crypto"
import { type Answer, type Json, type Service, waitUntil } from "../e2e/Service.js"
import { type Life, most } from "./Lives.js"

const terminal: ReadonlyArray<string> = ["succeeded", "failed", "cancelled"]

/** What a stand-in is asked to do; `text` is its answer. */
export interface Work {
  readonly text: string
  readonly [what: string]: unknown
}

export class Ledger {
  /** What was accepted, by id: a 202 or a 200 that reached us. */
  readonly accepted = new Map<string, { readonly work: Work; readonly tag: string }>()
  /** The newest answer that told of a job. */
  readonly #seen = new Map<string, Json>()
  /** Each submission has a tag in its metadata: at most one job may have it. */
  readonly #tags = new Set<string>()
  readonly #problems: Array<string> = []
  /** How many calls got no answer. */
  unanswered = 0
  /** How submissions were refused: status and type. */
  readonly refusals = new Set<string>()

  constructor(readonly service: Pick<Service, "submit" | "call" | "ended">) {}

  /** The accepted jobs of which no answer has told their end. */
  get open(): ReadonlyArray<string> {
    return [...this.accepted.keys()].filter((id) => !terminal.includes(this.#seen.get(id)?.status))
  }

  /** Submits once; what becomes of it is noted. Answers the job's id, if the service did. */
  async submit(work: Work, more: Record<string, unknown> = {}, headers: Record<string, string> = {}, tag = this.tag()) {
    const body = { metadata: { tag }, maxAttempts: 100, ...more }
    const answer = await this.#try(() => this.service.submit(JSON.stringify(work), body, headers))
    if (answer === undefined) return undefined
    if (answer.status !== 202 && answer.status !== 200) {
      this.refusals.add(`${answer.status} ${answer.body.type}`)
      return undefined
    }
    this.accepted.set(answer.body.id, { work, tag })
    this.see(answer.body)
    return String(answer.body.id)
  }

  /** Submits as a careful client does: under an idempotency key, again and again until it is answered. */
  async submitSurely(work: Work, more: Record<string, unknown> = {}): Promise<string> {
    const tag = this.tag()
    for (let tries = 0; tries < 2000; tries++) {
      const id = await this.submit(work, more, { "idempotency-key": tag }, tag)
      if (id !== undefined) return id
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    throw new Error("the service has not answered for too long")
  }

  async get(id: string): Promise<void> {
    const answer = await this.#try(() => this.service.call("GET", `/jobs/${id}`))
    if (answer?.status === 200) this.see(answer.body)
    else if (answer?.status === 404) this.#problems.push(`${id} was accepted and is not known`)
  }

  async cancel(id: string): Promise<void> {
    const answer = await this.#try(() => this.service.call("POST", `/jobs/${id}/cancel`))
    if (answer?.status === 200 || answer?.status === 202) this.see(answer.body)
  }

  tag(): string {
    const tag = randomUUID()
    this.#tags.add(tag)
    return tag
  }

  /** Compares an answer with the one before. Whichever was first, what both say is over must be the same. */
  see(job: Json): void {
    const before = this.#seen.get(job.id)
    if (before !== undefined) {
      const over = (each: Json) => JSON.stringify({ ...each, webhook: null })
      if (terminal.includes(before.status) && terminal.includes(job.status) && over(before) !== over(job)) {
        this.#problems.push(`${job.id} ended twice: ${over(before)} and ${over(job)}`)
      }
      for (const [index, attempt] of before.attempts.entries()) {
        const other = job.attempts[index]
        if (attempt.outcome === null || other === undefined || other.outcome === null) continue
        if (JSON.stringify(attempt) !== JSON.stringify(other)) {
          this.#problems.push(`${job.id} changed an attempt that was over: ${attempt.outcome}, ${other.outcome}`)
        }
      }
      if (before.attempts.length > job.attempts.length) return
    }
    this.#seen.set(job.id, job)
  }

  /**
   * Waits until every job has ended, and tells what is not as it must be: nothing, if the service keeps its promises.
   * `permits` is the most that may have run at once.
   */
  async problems(lives: () => ReadonlyArray<Life>, permits = 2, seconds = 150): Promise<ReadonlyArray<string>> {
    const listed = await this.list()
    const ids = new Set([...this.accepted.keys(), ...listed.map(({ id }) => id)])
    for (const id of ids) {
      this.see(await this.service.ended(id, seconds))
      await this.get(id)
    }
    const all = lives()
    const problems = [...this.#problems]
    for (const id of ids) problems.push(...this.#problemsOf(id, all))
    const found = new Set(listed.map(({ id }) => id))
    problems.push(...[...this.accepted.keys()].filter((id) => !found.has(id)).map((id) => `${id} is not listed`))
    const tags = listed.map(({ metadata }) => metadata.tag)
    problems.push(...tags.filter((tag, index) => tags.indexOf(tag) !== index).map((tag) => `two jobs of ${tag}`))
    problems.push(...tags.filter((tag) => !this.#tags.has(tag)).map((tag) => `a job of nobody: ${tag}`))
    const together = most(all)
    if (together.length > permits) problems.push(`ran at once: ${together}`)
    return problems
  }

  #problemsOf(id: string, all: ReadonlyArray<Life>): ReadonlyArray<string> {
    const job = this.#seen.get(id)
    const problems: Array<string> = []
    const lives = all.filter((life) => life.job === id)
    const outcomes: ReadonlyArray<string | null> = job.attempts.map(({ outcome }: Json) => outcome)
    const numbers: ReadonlyArray<number> = job.attempts.map(({ attempt }: Json) => attempt)
    if (numbers.some((number, index) => number !== index + 1)) problems.push(`${id} has attempts ${numbers}`)
    if (outcomes.includes(null)) problems.push(`${id} is ${job.status} with an attempt that goes on`)
    if (outcomes.slice(0, -1).includes("succeeded")) problems.push(`${id} went on after a success: ${outcomes}`)
    if ((outcomes.at(-1) === "succeeded") !== (job.status === "succeeded")) {
      problems.push(`${id} is ${job.status} after ${outcomes}`)
    }
    if (most(lives).length > 1) problems.push(`${id} had two attempts at once`)
    for (const { attempt } of lives) {
      if (!numbers.includes(attempt)) problems.push(`${id} does not know of its attempt ${attempt}`)
    }
    if (job.status !== "succeeded") return problems
    const last = lives.find(({ attempt, who }) => attempt === numbers.at(-1) && who === "main")
    if (last?.ended !== true) problems.push(`${id} has an answer that nobody gave`)
    const work = this.accepted.get(id)?.work ?? JSON.parse(job.input.prompt)
    const { text } = job.output
    if (text !== answerTo(work)) problems.push(`${id} answers ${JSON.stringify(job.output.text)}`)
    return problems
  }

  /** Every job, page by page. */
  async list(): Promise<ReadonlyArray<Json>> {
    const jobs: Array<Json> = []
    let cursor: string | null = null
    do {
      const page = await this.#page(cursor)
      jobs.push(...page.jobs)
      cursor = page.cursor
    } while (cursor !== null)
    return jobs
  }

  /** Some of several processes may not have their store back when the others do: they answer 503, and nothing else. */
  async #page(cursor: string | null): Promise<Json> {
    const path = `/jobs?limit=100${cursor === null ? "" : `&cursor=${cursor}`}`
    let page: Answer | undefined
    await waitUntil(async () => {
      page = await this.service.call("GET", path)
      return page.status !== 503
    })
    if (page?.status !== 200) throw new Error(`the jobs are not listed: ${JSON.stringify(page?.body)}`)
    return page.body
  }

  async #try<A>(call: () => Promise<A>): Promise<A | undefined> {
    try {
      return await call()
    } catch {
      this.unanswered++
      return undefined
    }
  }
}

const pieces = ({ chunks = 1, text }: Work): ReadonlyArray<string> =>
  chunks === 1 ? [text] : Array.from({ length: Number(chunks) }, (_, chunk) => `${chunk} ${text}\n`)

/** What the stand-in puts out. */
export const answerTo = (work: Work): string => pieces(work).join("")
