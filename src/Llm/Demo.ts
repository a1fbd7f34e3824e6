/**
 * `demo`: a program of this package that answers as slowly as an LLM, for a first look without one.
 */
import { type Adapter, systemFirst } from "./Adapter.js"
import { byFinalEvent } from "./Classify.js"
import { at, decoder, string, tokens } from "./JsonLines.js"
import { program } from "./Program.js"

export const demo: Adapter = {
  name: "demo",
  command: process.execPath,
  env: [],
  args: () => [program("demo-model.js")],
  stdin: systemFirst,
  decoder: ({ maxLine }) =>
    decoder(
      {
        value: (line) => {
          const text = string(line, "text")
          if (text !== undefined) return [{ _tag: "Text", text }]
          const usage = at(line, "usage")
          if (usage === undefined) return []
          return [
            {
              _tag: "Usage",
              usage: { inputTokens: tokens(usage, "inputWords"), outputTokens: tokens(usage, "outputWords") },
            },
            { _tag: "Final", complaint: null },
          ]
        },
      },
      maxLine,
    ),
  classify: byFinalEvent("the demo model"),
}
