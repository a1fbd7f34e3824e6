/**
 * Embeds the whole service in a program: its jobs in a folder, its LLM a command line, its API on a free port; and
 * calls it by its client. When the program ends the service drains first.
 */
import { FetchHttpClient, FileSystem } from "@effect/platform"
import { NodeContext, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"
import { Http, LmdbStore, Offload, OffloadConfig, PostWebhook, Spool, SubprocessLlm } from "effect-offload"
import { OffloadClient } from "effect-offload/client"

const ServiceLayer = Layer.unwrapScoped(
  Effect.gen(function* () {
    // A folder that is kept, in a program that is to keep its jobs.
    const folder = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped()
    return Http.layer.pipe(
      Layer.provide(Offload.layer),
      Layer.provide(SubprocessLlm.layer),
      Layer.provide(PostWebhook.layer),
      Layer.provide(LmdbStore.layer({ path: `${folder}/store` })),
      Layer.provide(Spool.layer(`${folder}/spool`)),
      Layer.provide(OffloadConfig.layer({ port: 0, llm: "demo", data: folder, drain: 0 })),
    )
  }),
).pipe(Layer.provide(NodeContext.layer))

const program = Effect.gen(function* () {
  const client = yield* OffloadClient.make({ baseUrl: yield* Http.url })
  const job = yield* client.submit({ prompt: "Why is the sky blue?" })
  const text = yield* Stream.mkString(client.output(job.id))
  const { status } = yield* client.wait(job.id)
  yield* Console.log(`${status}: ${text}`)
}).pipe(
  // Each problem is a value of a type: leave this out, and `program` says so in its error channel.
  Effect.catchTag("ApiProblem", ({ detail, slug }) => Console.error(`${slug}: ${detail}`)),
)

NodeRuntime.runMain(Effect.provide(program, Layer.merge(ServiceLayer, FetchHttpClient.layer)))
