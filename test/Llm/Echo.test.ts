import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { own } from "../../src/Llm/Echo.js"
import * as Phrases from "../../src/Llm/Phrases.js"

const prompt = 'Say "usage limit reached" twice,\nthen: HTTP 429, retry after 999999 seconds; é!'

describe("an echo of the caller's words", () => {
  it.each([
    ["as it is", prompt],
    ["in upper case", prompt.toUpperCase()],
    ["in JSON", JSON.stringify(prompt)],
    ["in JSON in JSON", JSON.stringify(JSON.stringify(prompt))],
    ["in JSON of ASCII alone", JSON.stringify(prompt).replaceAll("é", "\\u00e9")],
    ["in a URL", encodeURIComponent(prompt)],
    ["in HTML", prompt.replaceAll('"', "&quot;")],
    ["wrapped after each word, and indented", prompt.split(/\s/).join("\n    > ")],
    ["in colours", prompt.split(" ").join("\u001b[31m \u001b[0m")],
    ["without blanks", prompt.replaceAll(" ", "")],
    ["of its beginning", prompt.slice(0, 30)],
    ["of its end", prompt.slice(-35)],
    ["of its middle", prompt.slice(5, 26)],
  ])("is taken out %s, and leaves what stands around it", (_, echo) => {
    const rest = own({ prompt }).strip(`error in [ ${echo} ]: bad input`)
    expect(rest).toMatch(/^error in \[/)
    expect(rest).toMatch(/bad input$/)
    expect(rest).not.toMatch(/limit|reached|429|retry|999999/i)
  })

  it("is taken out for a system prompt and for the name of a model, also where that is short", () => {
    const words = own({ prompt: "p", system: "too many requests, please", model: "o3" })
    expect(words.strip("said: Too many requests -- please!")).toBe("said: \0!")
    expect(words.strip("model o3 in o3x and turbo3")).toBe("model \0 in o3x and turbo3")
  })

  it("is not seen in words that a short prompt shares with others", () => {
    expect(own({ prompt: "x" }).strip("quota exceeded")).toBe("quota exceeded")
    expect(own({ prompt: "Say hello." }).strip("You exceeded your current quota")).toBe(
      "You exceeded your current quota",
    )
  })

  it("is found wherever it stands in a text of any kind", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), fc.string({ maxLength: 60 }), (before, after) => {
        const text = `${before} usage limit reached|1770003600 ${after}`
        const words = own({ prompt: 'Repeat this: "usage limit reached|1770003600", please.' })
        expect(Phrases.kindOf(words.strip(text), words)).not.toBe("quota")
      }),
    )
  })

  it("is found in a time that grows with the texts alone, whatever they are", () => {
    const began = performance.now()
    for (const unit of ["a", "ab", "usage limit reached ", "\\u0061", "&lt;"]) {
      own({ prompt: unit.repeat(2 ** 20 / unit.length) }).strip(unit.repeat(4096 / unit.length))
    }
    expect(performance.now() - began).toBeLessThan(20_000)
  })
})

describe("words of a complaint", () => {
  const kindOf = (text: string, callers: { readonly model?: string; readonly prompt?: string } = {}) => {
    const words = own({ prompt: "Say hello.", ...callers })
    return Phrases.kindOf(words.strip(text), words)
  }

  it.each([
    "Traceback: line 429, in billing_report: KeyError quota_id",
    "billing is disabled in the settings",
    "reading quota from config.toml",
    "ImportError: cannot import name 'rate_limit_config' from 'throttle'",
    "from concurrent.futures import ThreadPoolExecutor",
    "warning: daily_limit_reached_count is unused",
    "error: no matching overloaded function found",
    "DeprecationWarning: usage_limit is deprecated",
    "HTTP 4290 is no status",
  ])("are none in %j", (text) => {
    expect(kindOf(text)).toBe(undefined)
  })

  it("are not believed of a kind that the caller writes of too", () => {
    const text = "quota exceeded"
    expect(kindOf(text)).toBe("quota")
    expect(kindOf(text, { prompt: "When is a quota exceeded?" })).toBe(undefined)
    expect(kindOf(text, { model: "Quota-Exceeded" })).toBe(undefined)
  })

  it("of a status are not believed where the caller writes its number", () => {
    expect(kindOf("error: 429")).toBe("rate")
    expect(kindOf("error: 429", { model: "openai/429" })).toBe(undefined)
    expect(kindOf("error: 429", { prompt: "429 is my favourite number" })).toBe(undefined)
  })

  it("of another kind still count", () => {
    expect(kindOf("quota exceeded: too many requests", { prompt: "What does quota exceeded mean?" })).toBe("rate")
  })
})
