// A service of which the tests kill everything: it runs attempts of a command for ever.
// node service.mjs <data> <containment> <how many at once> <command in JSON>
import { Effect, Layer, Logger } from "effect"
import { layer as llmLayer } from "../../../dist/Llm/Subprocess.js"
import { Llm } from "../../../dist/Llm.js"
import { OffloadConfig } from "../../../dist/OffloadConfig.js"

const [data, containment, count, command] = process.argv.slice(2)

const attempts = Effect.flatMap(Llm, (llm) =>
  Effect.forEach(
    Array.from({ length: Number(count) }, (_, index) => index),
    (index) =>
      llm
        .run({
          resource: "llm",
          attemptId: `service.${index}`,
          input: { prompt: "hello" },
          timeoutMillis: 600_000,
          maxCostUsd: null,
          onText: (text) => process.stdout.write(text),
          onUsage: () => {},
          onEnding: () => {},
        })
        .pipe(Effect.ignore, Effect.forever),
    { concurrency: "unbounded" },
  ),
)

Effect.runPromise(
  attempts.pipe(
    Effect.provide(
      llmLayer.pipe(
        Layer.provide(OffloadConfig.layer({ data, containment, llm: "command", llmCommand: JSON.parse(command) })),
        Layer.provide(Logger.remove(Logger.defaultLogger)),
      ),
    ),
  ),
)
