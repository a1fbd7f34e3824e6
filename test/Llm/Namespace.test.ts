/** What a namespace that serves many commands owes to each of them: to be as good as its own. */
import { rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import fc from "fast-check"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { identify } from "../../src/Llm/Cookie.js"
import { namespaces as candidates } from "../../src/Llm/Namespace.js"
import { type Data, makeData, namespaces, sh, waitUntil, withLlm } from "./harness.js"

let data: Data
beforeEach(() => {
  data = makeData()
})
afterEach(() => {
  expect(data.all()).toEqual([])
  expect(data.allFolders()).toEqual([])
  data.remove()
})

const run = <A>(command: Parameters<typeof sh>, use: Parameters<typeof withLlm<A>>[2], settings = {}) =>
  withLlm({ data: data.folder, llmCommand: sh(...command), ...settings }, "namespace", use)

describe.skipIf(!namespaces)("a namespace", () => {
  /** Says which namespace it is in, and how many processes it finds there, with itself and the first one. */
  const look = "readlink /proc/self/ns/pid; set -- /proc/[0-9]*; echo $#"
  const leave = [
    "i=0; while [ $i -lt 20 ]; do setsid -f sleep 60; i=$((i+1)); done",
    "(trap '' TERM HUP; while :; do sleep 0.01; done) & (trap '' TERM; kill -STOP $(sh -c 'echo $PPID')) &",
    "sh -c 'while :; do (setsid sleep 60 &) ; done' &",
    "export LEFT=over; cd /; exec 3>/dev/null; umask 0; trap '' TERM",
  ]

  it.each(leave)("gives a command nothing that the one before it left: %s", async (mess) => {
    await run(['eval "$1"', "{model}"], async ({ call }) => {
      const ask = async (model: string) => (await call({ input: { prompt: "", model } })).text
      const before = await ask(`${look}; umask; env | sort; trap`)
      for (let n = 0; n < 3; n++) await ask(`${mess}${mess.endsWith("&") ? "" : ";"} sleep 0.05`)
      const after = await ask(`${look}; umask; env | sort; trap`)
      const sameOf = (text: string) => text.replaceAll(/offload-[^/\n]*|attempt\.\d+/g, "")
      expect(before).toMatch(/^pid:\[\d+\]\n2\n/)
      expect(sameOf(after)).toBe(sameOf(before))
    })
  })

  it("hands arguments and variables on as they are", async () => {
    const word = fc.oneof(fc.string({ unit: "binary" }), fc.string({ unit: fc.constantFrom(..."'\"\\$`!\n\t {}~*") }))
    const clean = word.map((word) => Buffer.from(word.replaceAll("\0", "")).toString())
    await run(
      ['printf "%s|%s" "$1" "$WORD"', "{system}"],
      async ({ call }) => {
        await fc.assert(
          fc.asyncProperty(clean, clean, async (system, variable) => {
            process.env.WORD = variable
            const { text } = await call({ input: { prompt: "", system: `=${system}` } })
            expect(text).toBe(`=${system}|${variable}`)
          }),
          { numRuns: 100 },
        )
      },
      { llmEnv: ["WORD"] },
    ).finally(() => delete process.env.WORD)
  })

  it.each([
    "kill -KILL 0",
    "kill -KILL -1; kill -KILL $$",
    "kill -TERM 0; kill -KILL $$",
    "kill -KILL 1; kill -KILL $$",
  ])("is replaced when a command ends it: %s", async (end) => {
    await run(['eval "$1"', "{model}"], async ({ call }) => {
      for (let n = 0; n < 20; n++) {
        const { result } = await call({ input: { prompt: "", model: `${end}; sleep 60` } })
        expect({ ...result }).toMatchObject({ _tag: "LlmExit" })
        expect(await call({ input: { prompt: "p", model: "cat" } })).toMatchObject({ text: "p", result: {} })
      }
    })
  })

  it("is not asked to work in a folder that is none", async () => {
    const at = (folder: string) => ({ adapter: "command", command: ["true"], folder })
    const resources = JSON.stringify({ none: at(`${data.folder}/none`), file: at("/dev/null") })
    await withLlm({ data: data.folder, resources }, "namespace", async ({ call }) => {
      const resultOf = async (resource: string) => ({ ...(await call({ resource })).result })
      expect(await resultOf("none")).toMatchObject({ _tag: "LlmSpawn", code: "ENOENT" })
      expect(await resultOf("file")).toMatchObject({ _tag: "LlmSpawn", code: "ENOTDIR" })
    })
  })

  it("is replaced when somebody cleans its folder away", async () => {
    await run(["cat"], async ({ call }) => {
      for (const name of data.allFolders()) rmSync(join(tmpdir(), name), { recursive: true })
      expect({ ...(await call()).result }).toMatchObject({ _tag: "LlmSpawn", code: "ENOENT" })
      expect(await call({ input: { prompt: "p" } })).toMatchObject({ text: "p", result: {} })
    })
  })

  it("ends when it has had nothing to do for a while", async () => {
    for (const containment of candidates(identify(data.folder), 100)) {
      const places = await Promise.all([containment.prepare(() => {}), containment.prepare(() => {})])
      for (const place of places) if (typeof place !== "string") place.release()
      await waitUntil(() => data.all().length === 0 && data.allFolders().length === 0)
      const place = await containment.prepare(() => {})
      if (typeof place !== "string") expect(data.all()).not.toEqual([])
      await containment.close()
      expect(data.all()).toEqual([])
    }
  })
})
