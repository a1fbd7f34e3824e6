/** The keys of callers while the service runs: read again by SIGHUP, and borne once by a request. */
import { writeFileSync } from "node:fs"
import { createConnection } from "node:net"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { type Json, Service, standIn, waitUntil } from "./Service.js"

const alice = "alice-key-0123456789"
const next = "alice-key-9876543210"
const bob = "bob-key-0123456789ab"
const bearer = (key: string) => ({ authorization: `Bearer ${key}` })

let service: Service
let file: string
const write = (callers: unknown) => writeFileSync(file, typeof callers === "string" ? callers : JSON.stringify(callers))

beforeEach(async () => {
  service = new Service({ OFFLOAD_LLM: "command", OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")) })
  file = join(service.data, "keys.json")
  write({ alice: { keys: [alice] }, bob: { keys: [bob] } })
  await service.start({ OFFLOAD_API_KEYS_FILE: file })
})
afterEach(() => service.dispose())

const linesWith = (message: string) => service.lines.filter((line) => line.message.startsWith(message))

/** Asks for the keys to be read again; answers the line that says what became of it. */
const reload = async (message: string): Promise<Json> => {
  const before = linesWith(message).length
  service.signal("SIGHUP")
  await waitUntil(
    () => linesWith(message).length > before,
    () => service.log,
  )
  return linesWith(message).at(-1)
}

const status = async (key: string) => (await service.call("GET", "/jobs", undefined, bearer(key))).status

/** A stream of a job's events: whether it has ended. */
const openStream = async (id: string, key: string) => {
  const response = await fetch(`${service.url}/jobs/${id}/events`, { headers: bearer(key) })
  const stream = { status: response.status, ended: false }
  void response.text().then(
    () => {
      stream.ended = true
    },
    () => {
      stream.ended = true
    },
  )
  return stream
}

const long = JSON.stringify({ text: "x", chunks: 600, millis: 600_000 })

describe("SIGHUP", () => {
  it("takes new keys and refuses removed ones, ends their streams, and lets all else go on", async () => {
    const mine = (await service.submit(long, {}, bearer(alice))).body.id
    const theirs = (await service.submit(long, {}, bearer(bob))).body.id
    const streams = [await openStream(mine, alice), await openStream(theirs, bob)]
    expect(streams.map((stream) => stream.status)).toEqual([200, 200])

    write({ alice: { keys: [next] }, bob: { keys: [bob] } })
    const { annotations } = await reload("keys reloaded")
    expect(annotations).toMatchObject({ callers: 2, keys: 2, endedStreams: 1 })

    expect([await status(alice), await status(next), await status(bob)]).toEqual([401, 200, 200])
    expect((await service.submit(long, {}, bearer(alice))).status).toBe(401)
    await waitUntil(() => streams[0]?.ended === true)
    expect(streams[1]?.ended).toBe(false)
    const job = (await service.call("GET", `/jobs/${mine}`, undefined, bearer(next))).body
    expect(job).toMatchObject({ status: "running", attempt: 1 })
    const resumed = await openStream(mine, next)
    expect(resumed.status).toBe(200)
  })

  it.each([
    ["{}", /names no caller/],
    ["", /JSON/],
    ['{"alice":{"keys":["short"]}}', /alice.*16 characters/],
    [{ alice: { keys: [alice] }, bob: { keys: [alice] } }, /'alice' and 'bob'/],
  ])("keeps the keys where the file is not valid, and says why: %j", async (callers, reason) => {
    write(callers)
    const line = await reload("keys not reloaded")
    expect(line.logLevel).toBe("ERROR")
    expect(line.annotations.error).toMatch(reason)
    expect(line.annotations.error).toContain(file)
    expect([await status(alice), await status(bob), await status(next)]).toEqual([200, 200, 401])
    expect(service.log).not.toContain(alice)
  })
})

describe("a request with Authorization twice", () => {
  /** What a socket is answered that says just this. */
  const raw = (text: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = createConnection(Number(new URL(service.url).port), "127.0.0.1")
      let answer = ""
      socket.on("data", (chunk) => {
        answer += chunk
      })
      socket.on("end", () => resolve(answer))
      socket.on("error", reject)
      socket.write(text)
    })

  it.each([
    ["POST", "/jobs", '{"prompt":"x"}'],
    ["GET", "/jobs", ""],
    ["POST", "/v1/responses", '{"input":"x"}'],
  ])("is refused, whichever of the two is good, and changes nothing: %s %s", async (method, path, body) => {
    for (const [first, second] of [
      [alice, alice],
      [alice, "another-key-012345678"],
      ["another-key-012345678", alice],
    ] as const) {
      const answer = await raw(
        `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n` +
          `Authorization: Bearer ${first}\r\nauthorization: Bearer ${second}\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      )
      expect(answer).toMatch(/^HTTP\/1.1 400/)
      expect(answer).toContain("Authorization twice")
    }
    expect((await service.call("GET", "/jobs", undefined, bearer(alice))).body.jobs).toEqual([])
  })
})
