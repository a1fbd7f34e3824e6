/** The server by itself, before and after somebody serves. */
import type { HttpServer } from "@effect/platform"
import { Effect, Layer, type Scope } from "effect"
import { expect, it } from "vitest"
import { Connections, layer, url } from "../../src/Http/Server.js"
import { OffloadConfig } from "../../src/OffloadConfig.js"

const serverLayer = Layer.provide(layer, OffloadConfig.layer({ port: 0 }))

const run = (test: Effect.Effect<void, unknown, Connections | HttpServer.HttpServer | Scope.Scope>) =>
  Effect.runPromise(Effect.scoped(Effect.provide(test, serverLayer)))

const ask = (address: string, init?: RequestInit) => Effect.promise(() => fetch(`${address}/jobs`, init))

it("answers 503 with Retry-After until somebody serves, and after that", () =>
  run(
    Effect.gen(function* () {
      const address = yield* url
      const { serve } = yield* Connections
      const isStarting = Effect.gen(function* () {
        const answer = yield* ask(address, { method: "POST", body: "x".repeat(100_000) })
        expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "1"])
        expect(yield* Effect.promise(() => answer.json())).toMatchObject({ type: "/problems/starting", status: 503 })
      })
      yield* isStarting
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* serve((_request, response) => void response.end("served"))
          expect(yield* Effect.flatMap(ask(address), (answer) => Effect.promise(() => answer.text()))).toBe("served")
        }),
      )
      yield* isStarting
    }),
  ))

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
