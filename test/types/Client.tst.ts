import type { HttpClient } from "@effect/platform"
import { Effect, type Stream } from "effect"
import { describe, expect, test } from "tstyche"
import type { ApiProblem, JobEvent, OffloadClient, TransportError } from "../../src/Client.js"

declare const client: OffloadClient["Type"]

type ErrorOf<T> = T extends Effect.Effect<infer _A, infer E, infer _R> ? E : never
type SlugOf<T> = Extract<ErrorOf<T>, ApiProblem>["slug"]

describe("an error of the client", () => {
  const submit = client.submit({ prompt: "x" })

  test("is in the error channel until it is handled", () => {
    expect<ErrorOf<typeof submit>>().type.not.toBe<never>()
    expect(submit).type.not.toBeAssignableTo<Effect.Effect<unknown>>()
    expect<Extract<ErrorOf<typeof submit>, TransportError>>().type.toBe<TransportError>()
    const handled = submit.pipe(
      Effect.catchTag("ApiProblem", () => Effect.void),
      Effect.catchTag("TransportError", () => Effect.void),
    )
    expect<ErrorOf<typeof handled>>().type.toBe<never>()
  })

  test("names the problems of its call, and no other", () => {
    expect<"queue-full">().type.toBeAssignableTo<SlugOf<typeof submit>>()
    expect<"unauthorized">().type.toBeAssignableTo<SlugOf<typeof submit>>()
    expect<"job-not-terminal">().type.not.toBeAssignableTo<SlugOf<typeof submit>>()
    const remove = client.remove("job")
    expect<"job-not-terminal">().type.toBeAssignableTo<SlugOf<typeof remove>>()
    expect<"queue-full">().type.not.toBeAssignableTo<SlugOf<typeof remove>>()
  })

  test("is in the error channel of streams, too", () => {
    const events = client.events("job")
    expect(events).type.not.toBeAssignableTo<Stream.Stream<JobEvent>>()
    expect<Stream.Stream.Error<typeof events>>().type.not.toBe<never>()
    expect<"job-not-found">().type.toBeAssignableTo<Extract<Stream.Stream.Error<typeof events>, ApiProblem>["slug"]>()
  })
})

test("a client needs an HttpClient and nothing else", () => {
  const make: typeof OffloadClient.make = () => Effect.never
  expect<Effect.Effect.Context<ReturnType<typeof make>>>().type.toBe<HttpClient.HttpClient>()
})

test("a submission is what the contract takes", () => {
  expect(client.submit({ prompt: "x", maxAttempts: 2 })).type.not.toRaiseError()
  expect(client.submit({})).type.toRaiseError("prompt")
  expect(client.submit({ prompt: "x", maxattempts: 2 })).type.toRaiseError("maxattempts")
})
