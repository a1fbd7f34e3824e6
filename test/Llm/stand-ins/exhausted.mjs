// Calls a command while no file descriptors are left, and again when there are some: prints both outcomes as JSON.
// node exhausted.mjs <data>, under a low limit of open files.
import { closeSync, openSync } from "node:fs"
import { Effect, Layer, Logger } from "effect"
import { layer as llmLayer } from "../../../dist/Llm/Subprocess.js"
import { Llm } from "../../../dist/Llm.js"
import { OffloadConfig } from "../../../dist/OffloadConfig.js"

const [data] = process.argv.slice(2)

const held = []
const exhaust = () => {
  try {
    for (;;) held.push(openSync("/dev/null", "r"))
  } catch {
    // That is the aim.
  }
}

const outcomes = Effect.gen(function* () {
  const llm = yield* Llm
  const call = (attemptId) => {
    let text = ""
    const onText = (piece) => {
      text += piece
    }
    const request = { resource: "llm", attemptId, input: { prompt: "hello" }, timeoutMillis: 5000, maxCostUsd: null }
    return llm.run({ ...request, onText, onUsage: () => {}, onEnding: () => {} }).pipe(
      Effect.as({}),
      Effect.either,
      Effect.map((result) => ({ text, result })),
    )
  }
  const seen = [yield* call("first")]
  exhaust()
  // Some free, but too few for the four streams.
  for (const free of [0, 1, 2, 3]) {
    while (held.length > 0 && free > 0 && held.free !== free) {
      closeSync(held.pop())
      held.free = (held.free ?? 0) + 1
    }
    seen.push(yield* call(`full.${free}`))
  }
  for (const descriptor of held) closeSync(descriptor)
  seen.push(yield* call("last"))
  return seen
})

const layer = llmLayer.pipe(
  Layer.provide(OffloadConfig.layer({ data, containment: "group", llm: "command", llmCommand: ["cat"] })),
  Layer.provide(Logger.remove(Logger.defaultLogger)),
)
console.log(JSON.stringify(await Effect.runPromise(Effect.provide(outcomes, layer))))
