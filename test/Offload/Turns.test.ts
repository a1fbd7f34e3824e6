import { expect, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { Offload } from "../../src/Offload.js"
import { holds, service, untilStatus } from "./harness.js"

it.live("callers take turns, also where permits come free one by one", () => {
  const order: Array<string> = []
  const gates: Array<Deferred.Deferred<void>> = []
  const finishNext = Effect.suspend(() => {
    const gate = gates.shift()
    return gate === undefined ? Effect.void : Deferred.succeed(gate, undefined)
  })
  return Effect.gen(function* () {
    const offload = yield* Offload
    const send = (caller: string, prompt: string) =>
      Effect.map(offload.submit({ caller, input: { prompt }, metadata: {} }), ({ snapshot }) => snapshot.job.id)
    const many = yield* Effect.forEach(
      Array.from({ length: 20 }, (_, n) => n),
      (n) => send("ada", `a${n}`),
    )
    const one = yield* send("bob", "b0")
    yield* holds(() => gates.length === 2)
    const { queue } = yield* offload.get(one)
    expect(queue?.ahead).toBe(0)
    // One permit comes free: it is bob's turn, who had none, though ada's next job is older.
    yield* finishNext
    yield* untilStatus(one, "running")
    yield* holds(() => order.length === 3)
    expect(order.slice(0, 3)).toEqual(["a0", "a1", "b0"])
    expect((yield* offload.get(many[2] ?? one)).queue?.ahead).toBe(0)
    yield* Effect.forever(Effect.zipRight(finishNext, Effect.sleep(1))).pipe(
      Effect.raceFirst(Effect.forEach([...many, one], (id) => untilStatus(id, "succeeded"))),
    )
    expect(order).toHaveLength(21)
  }).pipe(
    Effect.provide(
      service(({ input }) =>
        Effect.gen(function* () {
          order.push(input.prompt)
          const gate = yield* Deferred.make<void>()
          gates.push(gate)
          yield* Deferred.await(gate)
        }),
      ),
    ),
  )
})
