/** A test that swaps the LLM: all else is the service as it is, with its jobs in memory. */

import { Effect, Layer, Logger } from "effect"
import { JobError, Llm, type LlmRequest, MemoryStore, Offload, OffloadConfig, Spool, Webhook } from "effect-offload"
import { expect, it } from "vitest"

/** An `Llm` whose calls do what `run` says. */
const llmOf = (run: (request: LlmRequest) => Effect.Effect<void, JobError.LlmError>) =>
  Layer.succeed(Llm, { adapter: () => "scripted", command: () => "none", run, killOrphans: Effect.succeed(0) })

const serviceOf = (llm: Layer.Layer<Llm>) =>
  Offload.layer.pipe(
    Layer.provide(llm),
    Layer.provide(Webhook.layerNone),
    Layer.provide(Layer.mergeAll(MemoryStore.layer, Spool.layerNone, OffloadConfig.layer({ retryBase: 10 }))),
    Layer.provide(Logger.remove(Logger.defaultLogger)),
  )

const ask = (prompt: string) =>
  Effect.gen(function* () {
    const offload = yield* Offload
    const { snapshot } = yield* offload.submit({ caller: "test", input: { prompt }, metadata: {} })
    return yield* offload.awaitEnd(snapshot.job.id, 5000)
  })

it("an answer is the text that the LLM gave", async () => {
  const llm = llmOf(({ input, onText }) => Effect.sync(() => onText(input.prompt.toUpperCase())))
  const { job, output } = await Effect.runPromise(Effect.provide(ask("hello"), serviceOf(llm)))
  expect(job).toMatchObject({ status: "succeeded", attempt: 1 })
  expect(output).toBe("HELLO")
})

it("a call that fails in passing is made again", async () => {
  let calls = 0
  const llm = llmOf(({ onText }) => {
    calls++
    return calls === 1
      ? new JobError.LlmExit({ command: "scripted", exitCode: 1, signal: null, stderr: "" })
      : Effect.sync(() => onText("at last"))
  })
  const { job, output } = await Effect.runPromise(Effect.provide(ask("hello"), serviceOf(llm)))
  expect(job.attempts.map(({ outcome }) => outcome)).toEqual(["failed", "succeeded"])
  expect(output).toBe("at last")
})
