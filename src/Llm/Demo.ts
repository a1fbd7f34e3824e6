/**
 * `demo`: a program of this package that answers as slowly as an LLM, for a first look without one.
 */
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { type Adapter, systemFirst } from "./Adapter.js"
import { byFinalEvent } from "./Classify.js"
import { at, decoder, number, string } from "./JsonLines.js"

/** Where it is, seen from this file: compiled, in the bundle, or run from its source. */
const places = ["./demo-model.js", "../Llm/demo-model.js", "../../dist/Llm/demo-model.js"]

const program = (): string => {
  const files = places.map((place) => fileURLToPath(new URL(place, import.meta.url)))
  return files.find(existsSync) ?? files[0] ?? ""
}

export const demo: Adapter = {
  name: "demo",
  command: process.execPath,
  env: [],
  args: () => [program()],
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
              usage: { inputTokens: number(usage, "inputWords"), outputTokens: number(usage, "outputWords") },
            },
            { _tag: "Final", complaint: null },
          ]
        },
      },
      maxLine,
    ),
  classify: byFinalEvent("the demo model"),
}
