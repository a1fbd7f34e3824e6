/**
 * The demo model: a program of its own. Reads a prompt from standard input and answers in JSON lines, a word at a
 * time: `{"text": …}`, and at the end `{"usage": {"inputWords": …, "outputWords": …}}`.
 */
import { text } from "node:stream/consumers"
import { setTimeout } from "node:timers/promises"

const wordMillis = 75

const words = (of: string): ReadonlyArray<string> => of.split(/\s+/).filter((word) => word !== "")

const say = (line: unknown): void => {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

const prompt = await text(process.stdin)

const answer = [
  "This is the demo model of Offload, and no LLM.\n",
  `It has read your prompt, which has ${[...prompt].length} characters, and understood none of it.`,
  "It answers slowly, as an LLM would, while the service stays quick.",
  "Set OFFLOAD_LLM to get a real answer.",
].join("\n")

const pieces = answer.match(/\S+\s*/g) ?? []
for (const piece of pieces) {
  await setTimeout(wordMillis)
  say({ text: piece })
}
say({ usage: { inputWords: words(prompt).length, outputWords: pieces.length } })
