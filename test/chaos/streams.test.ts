/**
 * Promise 7: an event stream that is cut at any byte, and resumed by `Last-Event-ID`, over restarts of every kind, gives
 * every event of the log once and in order.
 */
import { afterEach, expect, it } from "vitest"
import { type Json, Service, waitUntil } from "../e2e/Service.js"
import { type Chance, makeChance, scale, sleep } from "./Chance.js"
import { answerTo } from "./Ledger.js"
import { Lives } from "./Lives.js"

let service: Service
let lives: Lives
afterEach(async () => {
  await service?.dispose()
  lives?.dispose()
})

interface Message {
  readonly id: number
  /** As it came over the wire. */
  readonly text: string
}

const isDone = (messages: ReadonlyArray<Message>) => messages.at(-1)?.text.includes("event: done\n") === true

/** Reads after an event until so many bytes have come, and hangs up. Half a message is none. */
const readBytes = async (id: string, after: number, bytes: number): Promise<ReadonlyArray<Message>> => {
  const cut = new AbortController()
  const headers: Record<string, string> = after === 0 ? {} : { "last-event-id": String(after) }
  let read = Buffer.alloc(0)
  try {
    const response = await fetch(`${service.url}/jobs/${id}/events`, { headers, signal: cut.signal })
    for await (const chunk of response.body ?? []) {
      read = Buffer.concat([read, chunk])
      if (read.length >= bytes) break
    }
  } catch {
    // The service went away: what came before counts.
  }
  cut.abort()
  const whole = read.subarray(0, bytes)
  const text = whole.subarray(0, whole.lastIndexOf("\n\n") + 2).toString()
  return text
    .split("\n\n")
    .filter((part) => part.includes("data: "))
    .map((part) => ({ id: Number(/^id: (\d+)$/m.exec(part)?.[1]), text: part }))
}

/** What a reader has at the end that is cut off again and again. */
const readToEnd = async (id: string, chance: Chance): Promise<ReadonlyArray<Message>> => {
  const got: Array<Message> = []
  while (!isDone(got)) {
    const more = await readBytes(id, got.at(-1)?.id ?? 0, chance.whole(1, chance.one([200, 1000, 20_000])))
    got.push(...more)
    if (more.length === 0) await sleep(20)
  }
  return got
}

it(
  "is whole, however it is cut",
  async () => {
    const chance = makeChance()
    lives = new Lives()
    service = await new Service({
      ...lives.env,
      OFFLOAD_DRAIN_SECONDS: "0",
      OFFLOAD_PERMITS: "3",
    }).start()
    for (let round = 0; round < scale(1, 15); round++) {
      const works = [1, 2, 3].map((n) => ({
        text: `zeile ${n} 😀 çà\n\ndata: x`,
        chunks: 60,
        millis: scale(1500, 4000),
      }))
      const ids = await Promise.all(
        works.map(async (work) => (await service.submit(JSON.stringify(work), { maxAttempts: 100 })).body.id),
      )
      const readers = ids.flatMap((id) => [id, id]).map(async (id) => ({ id, got: await readToEnd(id, chance) }))
      for (const end of [() => service.kill(), () => service.stop()]) {
        await waitUntil(async () => (await service.call("GET", "/jobs?status=running")).body.jobs.length > 0)
        await sleep(chance.between(0, 1200))
        await end()
        await service.start()
      }
      for (const { got, id } of await Promise.all(readers)) {
        const stored = await readBytes(id, 0, Number.POSITIVE_INFINITY)
        expect(got).toEqual(stored)
        expect(got.map((message) => message.id)).toEqual(got.map((_, index) => index + 1))
        const job: Json = (await service.call("GET", `/jobs/${id}`)).body
        const texts = got
          .filter(({ text }) => text.includes("event: output\n"))
          .map(({ text }) => JSON.parse(/^data: (.*)$/m.exec(text)?.[1] ?? ""))
          .filter(({ attempt }) => attempt === job.attempt)
          .map(({ text }) => text)
        expect(job.status).toBe("succeeded")
        expect(texts.join("")).toBe(job.output.text)
        expect(job.output.text).toBe(answerTo(works[ids.indexOf(id)] ?? { text: "" }))
      }
    }
  },
  scale(240_000, 1_200_000),
)
