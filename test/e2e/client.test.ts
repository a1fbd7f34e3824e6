/** The client against the real service, over connections that break and a service that is killed. */

import { writeFileSync } from "node:fs"
import type { AddressInfo } from "node:net"
import { createServer, type Socket, connect as tcpConnect } from "node:net"
import { join } from "node:path"
import { FetchHttpClient } from "@effect/platform"
import { Chunk, Effect, Either, Fiber, Layer, Stream } from "effect"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { type JobEvent, OffloadClient, type Options } from "../../src/Client.js"
import { Service, standIn, waitUntil } from "./Service.js"

const key = "a-key-of-the-tests"
const service = new Service({
  OFFLOAD_LLM: "command",
  OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
  OFFLOAD_API_KEYS: JSON.stringify({ alice: { keys: [key] } }),
})
beforeAll(() => service.start())
afterAll(() => service.dispose())

type Client = OffloadClient["Type"]

/** Runs what a program does with a client. */
const withClient = <A, E>(use: (client: Client) => Effect.Effect<A, E>, options: Partial<Options> = {}): Promise<A> =>
  Effect.runPromise(
    Effect.provide(
      Effect.flatMap(OffloadClient, use),
      Layer.provide(OffloadClient.layer({ baseUrl: service.url, key, ...options }), FetchHttpClient.layer),
    ),
  )

const work = (does: object) => ({ prompt: JSON.stringify(does) })

/** A way to the service that stays at its address while the service comes and goes, and can be cut. */
class Line {
  readonly #sockets = new Set<Socket>()
  /** How many connections were made. */
  made = 0
  readonly #server = createServer((near) => {
    this.made++
    const far = tcpConnect(Number(new URL(service.url).port), "127.0.0.1")
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(one)
      one.on("error", () => other.destroy())
      one.on("close", () => {
        this.#sockets.delete(one)
        other.destroy()
      })
      one.pipe(other)
    }
  })

  async open(): Promise<string> {
    await new Promise<void>((listening) => this.#server.listen(0, "127.0.0.1", listening))
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Cuts every connection, in the middle of whatever it carries. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  close(): void {
    this.cut()
    this.#server.close()
  }
}

let line: Line
afterEach(() => line?.close())

const textOf = (events: ReadonlyArray<JobEvent>, attempt: number) =>
  events.map((event) => (event.type === "output" && event.attempt === attempt ? event.text : "")).join("")

describe("the client", () => {
  it("submits, waits for the end, lists and removes", async () => {
    const { found, job, listed, removed } = await withClient((client) =>
      Effect.gen(function* () {
        const submitted = yield* client.submit(work({ text: "hello", millis: 300 }))
        const job = yield* client.wait(submitted.id)
        const listed = yield* Stream.runCollect(client.list({ status: "succeeded", pageSize: 1 }))
        yield* client.remove(job.id)
        const removed = yield* Effect.either(client.get(job.id))
        return { job, listed, removed, found: submitted.status }
      }),
    )
    expect(["queued", "running"]).toContain(found)
    expect(job).toMatchObject({ status: "succeeded", output: { text: "hello" } })
    expect(Chunk.toReadonlyArray(listed).map(({ id }) => id)).toContain(job.id)
    expect(Either.getLeft(removed)).toMatchObject({ value: { _tag: "ApiProblem", slug: "job-not-found", status: 404 } })
  })

  it("lists over pages", async () => {
    const ids = await withClient((client) =>
      Effect.gen(function* () {
        const jobs = yield* Effect.forEach([1, 2, 3], (n) => client.submit(work({ text: `${n}` })))
        const listed = yield* Stream.runCollect(Stream.take(client.list({ pageSize: 2 }), 3))
        return [jobs.map(({ id }) => id).reverse(), Chunk.toReadonlyArray(listed).map(({ id }) => id)]
      }),
    )
    expect(ids[1]).toEqual(ids[0])
  })

  it("waits within a submission, and gives the same job for the same key", async () => {
    const [first, second] = await withClient((client) =>
      Effect.gen(function* () {
        const options = { idempotencyKey: "once", waitSeconds: 60 }
        return [yield* client.submit(work({ text: "x" }), options), yield* client.submit(work({ text: "x" }), options)]
      }),
    )
    expect(first?.status).toBe("succeeded")
    expect(second?.id).toBe(first?.id)
  })

  it("submits one job, however often the connection breaks under it", async () => {
    line = new Line()
    const baseUrl = await line.open()
    const until = join(service.data, "cut")
    const [job, all] = await withClient(
      (client) =>
        Effect.gen(function* () {
          const submission = yield* Effect.fork(
            client.submit({ ...work({ text: "one", until }), metadata: { of: "cuts" } }, { waitSeconds: 60 }),
          )
          // The job is saved, and its answer still to come.
          yield* Effect.promise(() => waitUntil(async () => line.made > 0 && (await running()) > 0))
          line.cut()
          writeFileSync(until, "")
          const job = yield* Fiber.join(submission)
          return [job, Chunk.toReadonlyArray(yield* Stream.runCollect(client.list()))]
        }),
      { baseUrl },
    )
    expect(job).toMatchObject({ status: "succeeded", output: { text: "one" } })
    expect(line.made).toBeGreaterThan(1)
    expect(all.filter(({ metadata }) => metadata.of === "cuts")).toHaveLength(1)
  })

  it("streams through cut connections and kill -9 of the service, with nothing lost or repeated", async () => {
    line = new Line()
    const baseUrl = await line.open()
    const got: Array<JobEvent> = []
    const job = await withClient(
      (client) =>
        Effect.gen(function* () {
          const { id } = yield* client.submit(work({ text: "zeile 😀", chunks: 40, millis: 4000, first: 30 }))
          const reader = yield* Effect.fork(
            Stream.runForEach(client.events(id), (event) => Effect.sync(() => got.push(event))),
          )
          const until = (attempt: number, chunk: number) =>
            Effect.promise(() => waitUntil(() => textOf(got, attempt).includes(`zeile 😀 ${chunk}\n`)))
          yield* until(1, 2)
          line.cut()
          yield* until(1, 9)
          yield* Effect.promise(() => service.kill())
          yield* Effect.promise(() => service.start())
          yield* until(2, 5)
          line.cut()
          yield* Fiber.join(reader)
          return yield* client.get(id)
        }),
      { baseUrl },
    )
    expect(got.map(({ id }) => id)).toEqual(got.map((_, index) => index + 1))
    expect(got.at(-1)).toMatchObject({ type: "done", status: "succeeded", attempt: 2 })
    expect(job.attempts.map(({ outcome }) => outcome)).toEqual(["orphaned", "succeeded"])
    expect(textOf(got, 2)).toBe(job.output?.text)
    expect(job.output?.text).toContain("zeile 😀")
    expect(line.made).toBeGreaterThan(3)
  })

  it("goes on after an event, gives nothing to a reader that has everything, and gives the text alone", async () => {
    const { all, none, rest, text } = await withClient((client) =>
      Effect.gen(function* () {
        const { id } = yield* client.submit(work({ text: "abc ", chunks: 3, millis: 100 }), { waitSeconds: 60 })
        const all = Chunk.toReadonlyArray(yield* Stream.runCollect(client.events(id)))
        const from = (event: number) => Stream.runCollect(client.events(id, { after: event }))
        return {
          all,
          rest: Chunk.toReadonlyArray(yield* from(2)),
          none: Chunk.toReadonlyArray(yield* from(all.length)),
          text: yield* Stream.mkString(client.output(id)),
        }
      }),
    )
    expect(rest).toEqual(all.slice(2))
    expect(none).toEqual([])
    expect(text).toBe(textOf(all, 1))
    expect(text).not.toBe("")
  })

  it("cancels", async () => {
    const [asked, ended] = await withClient((client) =>
      Effect.gen(function* () {
        const { id } = yield* client.submit(work({ text: "x", millis: 600_000 }))
        return [yield* client.cancel(id), yield* client.wait(id)]
      }),
    )
    expect(asked?.id).toBe(ended?.id)
    expect(ended?.status).toBe("cancelled")
  })
})

describe("an error of the client", () => {
  const failureOf = <A, E>(use: (client: Client) => Effect.Effect<A, E>, options: Partial<Options> = {}) =>
    withClient((client) => Effect.flip(use(client)), options)

  it("is the problem that the service told, with its members", async () => {
    expect(await failureOf((client) => client.submit({ prompt: "x", resource: "nowhere" }))).toMatchObject({
      _tag: "ApiProblem",
      slug: "unknown-resource",
      status: 422,
      extensions: { known: ["llm"] },
    })
    const running = await withClient((client) => client.submit(work({ text: "x", millis: 600_000 })))
    expect(await failureOf((client) => client.remove(running.id))).toMatchObject({ slug: "job-not-terminal" })
    await withClient((client) => client.cancel(running.id))
    expect(await failureOf((client) => Stream.runDrain(client.events("../resources")))).toMatchObject({
      slug: "job-not-found",
    })
  })

  it("is told at once of a body that the contract refuses", async () => {
    const error = await failureOf((client) => client.submit({ prompt: "", maxAttempts: 0 }), {
      baseUrl: "http://[::1]:9",
    })
    expect(error).toMatchObject({ _tag: "ApiProblem", slug: "invalid-request", status: 422 })
    const pointers = error._tag === "ApiProblem" ? error.extensions.errors?.map(({ pointer }) => pointer) : []
    expect(new Set(pointers)).toEqual(new Set(["/prompt", "/maxAttempts"]))
    expect(await failureOf((client) => Stream.runDrain(client.list({ pageSize: 1000 })))).toMatchObject({
      slug: "invalid-parameter",
    })
  })

  it("is `unauthorized` for a wrong key and for none, of calls and of streams", async () => {
    for (const wrong of ["another-key-of-the-tests", undefined]) {
      const options = { key: wrong }
      expect(await failureOf((client) => client.get("job_x"), options)).toMatchObject({
        slug: "unauthorized",
        status: 401,
      })
      expect(await failureOf((client) => Stream.runDrain(client.output("job_x")), options)).toMatchObject({
        slug: "unauthorized",
      })
    }
  })

  it("is a TransportError where nobody is, after its patience", async () => {
    const nowhere = { baseUrl: "http://127.0.0.1:9", patience: "300 millis" } as const
    const unreachable = { _tag: "TransportError", reason: "unreachable" }
    expect(await failureOf((client) => client.get("job_x"), nowhere)).toMatchObject(unreachable)
    expect(await failureOf((client) => Stream.runDrain(client.events("job_x")), nowhere)).toMatchObject(unreachable)
  })

  it("is a TransportError where another service answers", async () => {
    for (const path of ["/docs", "/problems/not-found?"]) {
      const options = { baseUrl: `${service.url}${path}` }
      expect(await failureOf((client) => client.get("job_x"), options)).toMatchObject({
        _tag: "TransportError",
        reason: "unexpected",
      })
    }
  })
})

/** How many jobs run. */
const running = async (): Promise<number> => {
  const { body } = await service.call("GET", "/jobs?status=running", undefined, { authorization: `Bearer ${key}` })
  return body.jobs.length
}
