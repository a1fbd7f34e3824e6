/** The sender, with names that resolve as a test says. The requests are real. */
import { createServer, type Server } from "node:net"
import { afterEach, describe, expect, it } from "@effect/vitest"
import { Effect, Either, Layer, Redacted } from "effect"
import { OffloadConfig, type Settings } from "../../src/OffloadConfig.js"
import type { Address } from "../../src/Webhook/Names.js"
import { make } from "../../src/Webhook/Post.js"
import type { Lookup } from "../../src/Webhook/Resolve.js"
import { retryAfterMillis } from "../../src/Webhook/RetryAfter.js"
import { Webhook } from "../../src/Webhook.js"

const secret = `whsec_${Buffer.from("a".repeat(32)).toString("base64")}`

/** Names whose addresses are those of the turn: the first resolution gets the first of them. */
const names = (turns: Record<string, ReadonlyArray<ReadonlyArray<string>>>, asked: Array<string> = []): Lookup => {
  return ({ hostname }) =>
    Effect.suspend(() => {
      const turn = turns[hostname]?.[asked.filter((name) => name === hostname).length]
      asked.push(hostname)
      return turn === undefined
        ? Effect.fail({ code: "ENOTFOUND" })
        : Effect.succeed(turn.map((address): Address => ({ address, family: address.includes(":") ? 6 : 4 })))
    })
}

const post = (url: string, lookup: Lookup, settings: Partial<Settings> = {}, timeoutMillis = 5000) =>
  Effect.flatMap(Webhook, (webhook) => webhook.post({ id: "job_1", url, body: "{}", timeoutMillis })).pipe(
    Effect.either,
    Effect.provide(
      Layer.provide(make(lookup), OffloadConfig.layer({ webhookSecrets: [Redacted.make(secret)], ...settings })),
    ),
    Effect.map((result) => (Either.isLeft(result) ? result.left : "delivered")),
  )

let server: Server | undefined
afterEach(async () => {
  await new Promise((resolve) => (server === undefined ? resolve(null) : server.close(resolve)))
  server = undefined
})

/** A server that answers each connection with these bytes; what it got. */
const serve = (answer: string, requests: Array<string> = []) =>
  Effect.promise(
    () =>
      new Promise<number>((resolve) => {
        server = createServer((socket) => {
          socket.on("error", () => {})
          socket.on("data", (chunk) => {
            requests.push(chunk.toString())
            socket.write(answer)
          })
        }).listen(0, "127.0.0.1", () => {
          const address = server?.address()
          resolve(typeof address === "object" && address !== null ? address.port : 0)
        })
      }),
  )

const local: Partial<Settings> = { webhookAllow: ["hook.test"] }
const here = () => names({ "hook.test": [["127.0.0.1"]] })

describe("a name", () => {
  it.effect("with one address that is private is refused, and nothing is connected to", () =>
    Effect.gen(function* () {
      const requests: Array<string> = []
      const port = yield* serve("HTTP/1.1 204 No Content\r\n\r\n", requests)
      for (const addresses of [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::1"], ["64:ff9b::7f00:1"], ["?"]]) {
        const url = `https://evil.test:${port}/path`
        const error = yield* post(url, names({ "evil.test": [addresses] }))
        expect(error).toMatchObject({ _tag: "WebhookRefused", host: `evil.test:${port}` })
      }
      expect(requests).toEqual([])
    }),
  )

  it.live("is resolved once: the checked address is the one that is connected to", () =>
    Effect.gen(function* () {
      const asked: Array<string> = []
      const requests: Array<string> = []
      const port = yield* serve("HTTP/1.1 204 No Content\r\n\r\n", requests)
      // A second resolution would give an address that nobody has checked, and where nothing listens.
      const rebinding = names({ "hook.test": [["127.0.0.1"], ["127.0.0.2"]] }, asked)
      expect(yield* post(`http://hook.test:${port}/a?b=c`, rebinding, local)).toBe("delivered")
      expect(asked).toEqual(["hook.test"])
      expect(requests[0]).toMatch(/^POST \/a\?b=c HTTP\/1\.1\r\n/)
      expect(requests[0]?.toLowerCase()).toContain(`host: hook.test:${port}\r\n`)
    }),
  )

  it.effect("that is not known may be known later", () =>
    Effect.gen(function* () {
      const error = yield* post("https://nowhere.test/", names({}))
      expect(error).toMatchObject({ _tag: "WebhookUnreachable", code: "ENOTFOUND" })
      const empty = yield* post("https://nowhere.test/", names({ "nowhere.test": [[]] }))
      expect(empty).toMatchObject({ _tag: "WebhookUnreachable", code: "ENOTFOUND" })
    }),
  )

  it.live("that resolves too slowly is given up", () =>
    Effect.gen(function* () {
      const error = yield* post("https://slow.test/", () => Effect.never, {}, 50)
      expect(error).toMatchObject({ _tag: "WebhookUnreachable", code: "ETIMEDOUT" })
    }),
  )
})

describe("a name with several addresses", () => {
  const deliveredTo = (addresses: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const requests: Array<string> = []
      const port = yield* serve("HTTP/1.1 204 No Content\r\n\r\n", requests)
      const result = yield* post(`http://hook.test:${port}/`, names({ "hook.test": [addresses] }), local)
      return { requests: requests.length, result }
    })

  it.live("is reached in the first attempt where one of them works, whichever that is", () =>
    Effect.gen(function* () {
      // The first refuses; the second is for documentation, and is unreachable or silent.
      for (const dead of ["::1", "192.0.2.1", "2001:db8::1"]) {
        for (const addresses of [
          [dead, "127.0.0.1"],
          ["127.0.0.1", dead],
          [dead, dead, "127.0.0.1", dead],
        ]) {
          expect(yield* deliveredTo(addresses)).toEqual({ requests: 1, result: "delivered" })
          yield* Effect.promise(() => new Promise((resolve) => server?.close(resolve)))
        }
      }
    }),
  )

  it.live("is not reached where none of them works, and says why", () =>
    Effect.gen(function* () {
      const closed = yield* serve("")
      yield* Effect.promise(() => new Promise((resolve) => server?.close(resolve)))
      const error = yield* post(`http://hook.test:${closed}/`, names({ "hook.test": [["::1", "127.0.0.1"]] }), local)
      expect(error).toMatchObject({ _tag: "WebhookUnreachable", code: "ECONNREFUSED" })
    }),
  )
})

describe("an answer", () => {
  const answering = (answer: string, timeoutMillis = 5000) =>
    Effect.flatMap(serve(answer), (port) => post(`http://hook.test:${port}/`, here(), local, timeoutMillis))

  it.live("counts by its status, however long its body is or however slowly it comes", () =>
    Effect.gen(function* () {
      expect(yield* answering(`HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n${"x".repeat(100_000)}`)).toBe(
        "delivered",
      )
      const began = Date.now()
      expect(yield* answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", 500)).toBe("delivered")
      expect(Date.now() - began).toBeLessThan(30_000)
    }),
  )

  it.live("that does not come, or is no HTTP, is none", () =>
    Effect.gen(function* () {
      expect(yield* answering("", 200)).toMatchObject({ _tag: "WebhookUnreachable", code: "ETIMEDOUT" })
      expect(yield* answering("nonsense\r\n\r\n")).toMatchObject({ _tag: "WebhookUnreachable" })
      expect(
        yield* answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
      ).toMatchObject({
        _tag: "WebhookUnreachable",
      })
    }),
  )

  it.live("may ask for time", () =>
    Effect.gen(function* () {
      const answer = (status: string) => `HTTP/1.1 ${status}\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n`
      expect(yield* answering(answer("503 Busy"))).toMatchObject({ httpStatus: 503, retryAfterMillis: 7000 })
      expect(yield* answering(answer("410 Gone"))).toMatchObject({ _tag: "WebhookGone" })
    }),
  )
})

describe("Retry-After", () => {
  it("is seconds or a date, of 429 and 503, and at most a day", () => {
    const now = Date.UTC(2030, 0, 1)
    expect(retryAfterMillis(429, "120", now)).toBe(120_000)
    expect(retryAfterMillis(503, "Tue, 01 Jan 2030 00:00:30 GMT", now)).toBe(30_000)
    expect(retryAfterMillis(503, "Mon, 31 Dec 2029 00:00:00 GMT", now)).toBe(0)
    expect(retryAfterMillis(503, "9999999999", now)).toBe(86_400_000)
    expect(retryAfterMillis(500, "120", now)).toBe(null)
    for (const header of [undefined, "", "soon"]) expect(retryAfterMillis(503, header, now)).toBe(null)
  })
})
