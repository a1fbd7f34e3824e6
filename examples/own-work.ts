/**
 * Offloads an Effect of your own, with errors of your own: no LLM and no HTTP. The queue, the permits, the retries and
 * the record of every attempt come with it.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Data, Effect, Layer } from "effect"
import {
  CurrentAttempt,
  type Handlers,
  MemoryStore,
  Offload,
  OffloadConfig,
  type Output,
  Spool,
  settle,
  Webhook,
  Worker,
} from "effect-offload"

class TooHot extends Data.TaggedError("TooHot")<{ readonly degrees: number }> {}
class NoLeaves extends Data.TaggedError("NoLeaves")<{ readonly tea: string }> {}

/** The work: it reads the job, tells what it puts out while it runs, and may fail. */
const brew: Effect.Effect<Output, TooHot | NoLeaves, CurrentAttempt> = Effect.gen(function* () {
  const { emit, input, job } = yield* CurrentAttempt
  if (input.prompt === "white") return yield* new NoLeaves({ tea: input.prompt })
  // The kettle has to cool down once.
  if (job.attempt === 1) return yield* new TooHot({ degrees: 100 })
  yield* Effect.sleep("50 millis")
  emit(`a cup of ${input.prompt} tea`)
  return {}
})

/** What each error means for the job. Leave one out, and this does not compile. */
const handlers: Handlers<TooHot | NoLeaves> = {
  TooHot: ({ degrees }) => ({
    level: "Warning",
    failure: { tag: "TooHot", title: "The water is too hot", detail: `${degrees} °C`, retryable: true },
  }),
  NoLeaves: ({ tea }) => ({
    level: "Error",
    failure: { tag: "NoLeaves", title: "The tin is empty", detail: `No ${tea} tea is left.`, retryable: false },
  }),
}

const BrewingLayer = Layer.succeed(Worker, {
  settle: ({ id, resource }) => settle({ id, resource: resource.name, adapter: "kettle" }, brew, handlers),
  describe: () => ({ adapter: "kettle", command: "none" }),
  killOrphans: Effect.succeed(0),
})

const OffloadLayer = Offload.layerWorker.pipe(
  Layer.provide(BrewingLayer),
  Layer.provide(Webhook.layerNone),
  Layer.provide(MemoryStore.layer),
  Layer.provide(Spool.layerNone),
  Layer.provide(OffloadConfig.layer({ resources: '{"kettle":{"permits":1}}', retryBase: 100 })),
)

const program = Effect.gen(function* () {
  const offload = yield* Offload
  for (const tea of ["green", "white"]) {
    const { snapshot } = yield* offload.submit({ caller: "me", input: { prompt: tea }, metadata: {} })
    const { job, output } = yield* offload.awaitEnd(snapshot.job.id, 10_000)
    yield* Console.log(`${job.status} at attempt ${job.attempt}: ${output || job.error?.detail}`)
  }
})

NodeRuntime.runMain(Effect.provide(program, OffloadLayer))
