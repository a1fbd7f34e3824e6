import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type Json, Service, standIn, waitUntil } from "./Service.js"

const service = new Service({
  OFFLOAD_LLM: "command",
  OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
  OFFLOAD_MAX_STREAMS: "3",
})
beforeAll(() => service.start())
afterAll(() => service.dispose())

interface Message {
  readonly id: number
  readonly event: string
  readonly data: Json
}

/** Reads a job's stream until it ends, or until `enough` says so and the connection is cut. */
const read = async (
  id: string,
  after?: number,
  enough: (messages: ReadonlyArray<Message>) => boolean = () => false,
) => {
  const response = await fetch(`${service.url}/jobs/${id}/events`, {
    headers: after === undefined ? {} : { "last-event-id": String(after) },
  })
  const messages: Array<Message> = []
  let text = ""
  const decoder = new TextDecoder()
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true })
    const parts = text.split("\n\n")
    text = parts.pop() ?? ""
    for (const part of parts) {
      const fields = Object.fromEntries(part.split("\n").map((line) => line.split(/: (.*)/s)))
      if (fields.data !== undefined) {
        messages.push({ id: Number(fields.id), event: fields.event, data: JSON.parse(fields.data) })
      }
    }
    // Leaving the loop cuts the connection. An abort while the answer ends leaves Node 20's fetch waiting for ever.
    if (enough(messages)) break
  }
  return { status: response.status, headers: response.headers, messages }
}

const textOf = (messages: ReadonlyArray<Message>) =>
  messages
    .filter(({ event }) => event === "output")
    .map(({ data }) => data.text)
    .join("")

describe("the event stream", () => {
  it("tells a job's life as it happens, and ends with it", async () => {
    const { body } = await service.submit(JSON.stringify({ text: "😀 chunk", chunks: 10, millis: 1000 }))
    const { headers, messages, status } = await read(body.id)
    expect(status).toBe(200)
    expect(headers.get("content-type")).toBe("text/event-stream")
    expect(messages.filter(({ event }) => event === "status").map(({ data }) => data.status)).toEqual([
      "queued",
      "running",
      "succeeded",
    ])
    expect(messages.filter(({ event }) => event === "output").length).toBeGreaterThan(1)
    expect(messages.map(({ id }) => id)).toEqual(messages.map((_, index) => index + 1))
    expect(messages.at(-1)).toMatchObject({ event: "done", data: { status: "succeeded", error: null } })
    expect(textOf(messages)).toBe((await service.ended(body.id)).output.text)
  })

  it("goes on where it was cut, with nothing lost or repeated, also after kill -9 of the service", async () => {
    const { body } = await service.submit(JSON.stringify({ text: "line", chunks: 30, millis: 3000, first: 20 }))
    const got: Array<Message> = []
    let wasKilled = false
    const isTimeToKill = (sofar: ReadonlyArray<Message>) =>
      !wasKilled && textOf([...got, ...sofar]).includes("line 9\n")
    while (got.at(-1)?.event !== "done") {
      const enough = (sofar: ReadonlyArray<Message>) => sofar.length >= 4 || isTimeToKill(sofar)
      const { messages } = await read(body.id, got.at(-1)?.id ?? 0, enough)
      got.push(...messages)
      if (isTimeToKill([])) {
        wasKilled = true
        await service.kill()
        await service.start()
      }
    }
    expect(got.map(({ id }) => id)).toEqual(got.map((_, index) => index + 1))
    const ended = await service.ended(body.id)
    expect(ended.attempts.map(({ outcome }: Json) => outcome)).toEqual(["orphaned", "succeeded"])
    expect(textOf(got.filter(({ data }) => data.attempt === 2))).toBe(ended.output.text)
  })

  it("tells everything again afterwards, and tells a reader that has it all not to come back", async () => {
    const { body } = await service.submit(JSON.stringify({ text: "x" }), {}, { prefer: "wait=60" })
    const { messages } = await read(body.id)
    expect(messages.at(-1)?.event).toBe("done")
    expect((await read(body.id, messages.at(-1)?.id)).status).toBe(204)
    expect((await read(body.id, (messages.at(-1)?.id ?? 0) - 1)).messages).toEqual(messages.slice(-1))
    expect((await read(body.id, 10_000)).status).toBe(204)
  })

  it("is refused above its limit, and a reader that goes away makes room", async () => {
    const { body } = await service.submit(JSON.stringify({ text: "x", millis: 600_000 }))
    const cuts = Array.from({ length: 3 }, () => new AbortController())
    for (const { signal } of cuts) await fetch(`${service.url}/jobs/${body.id}/events`, { signal })
    const refused = await service.call("GET", `/jobs/${body.id}/events`)
    expect(refused).toMatchObject({ status: 429, body: { type: "/problems/too-many-streams" } })
    for (const cut of cuts) cut.abort()
    await waitUntil(async () => (await read(body.id, 0, () => true)).status === 200)
    await service.call("POST", `/jobs/${body.id}/cancel`)
    await service.ended(body.id)
  })
})
