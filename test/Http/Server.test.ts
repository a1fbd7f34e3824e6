/** The server by itself, before and after somebody serves. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import type { HttpServer } from "@effect/platform"
import { Effect, Fiber, Layer, type Scope } from "effect"
import { expect, it } from "vitest"
import { Connections, layer, url } from "../../src/Http/Server.js"
import * as Starting from "../../src/Http/Starting.js"
import { OffloadConfig } from "../../src/OffloadConfig.js"

const serverLayer = Layer.provide(layer, OffloadConfig.layer({ port: 0 }))

const run = (test: Effect.Effect<void, unknown, Connections | HttpServer.HttpServer | Scope.Scope>) =>
  Effect.runPromise(Effect.scoped(Effect.provide(test, serverLayer)))

const ask = (address: string, init?: RequestInit) => Effect.promise(() => fetch(`${address}/jobs`, init))

it("lets requests wait until somebody serves, says at once that it is not ready, and answers 503 after that", () =>
  run(
    Effect.gen(function* () {
      const address = yield* url
      const { serve } = yield* Connections
      const ready = Effect.promise(() => fetch(`${address}/health/ready`))
      const early = yield* Effect.fork(ask(address, { method: "POST", body: "x".repeat(100_000) }))
      // Once and again, so that the other one has come too.
      for (let n = 0; n < 3; n++) expect((yield* ready).status).toBe(503)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* serve((request, response) => void request.on("end", () => response.end("served")).resume())
          const answer = yield* Fiber.join(early)
          expect([answer.status, yield* Effect.promise(() => answer.text())]).toEqual([200, "served"])
        }),
      )
      const late = yield* ask(address)
      expect([late.status, late.headers.get("retry-after")]).toEqual([503, "1"])
      expect(yield* Effect.promise(() => late.json())).toMatchObject({ type: "/problems/starting", status: 503 })
    }),
  ))

it("lets no more requests wait than it may, nor longer, and none when it ends", async () => {
  const starting = Starting.make({ holdMillis: 200, most: 1 })
  const server = createServer(starting.listener)
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening))
  const { port } = server.address() as AddressInfo
  const status = async () => (await fetch(`http://127.0.0.1:${port}/jobs`)).status
  const both = [status(), status()]
  // One of them at once, one in time.
  expect(await Promise.race(both)).toBe(503)
  expect(await Promise.all(both)).toEqual([503, 503])
  const last = status()
  starting.end()
  expect(await last).toBe(503)
  await new Promise((closed) => server.close(closed))
})

it("that is closed takes no connection, and waits only so long for the open ones", () =>
  run(
    Effect.gen(function* () {
      const address = yield* url
      const { close, serve } = yield* Connections
      // It never ends.
      yield* serve((_request, response) => void response.writeHead(200).write("begun"))
      const open = yield* ask(address)
      yield* close
      const cut = yield* Effect.promise(() =>
        open.text().then(
          () => "ended",
          () => "cut",
        ),
      )
      expect(cut).toBe("cut")
      const refused = yield* Effect.promise(() =>
        fetch(address).then(
          () => "answered",
          () => "refused",
        ),
      )
      expect(refused).toBe("refused")
    }),
  ))
