/** What a sandbox owes to its command, and to those before and after it. */
import { rmSync } from "node:fs"
import fc from "fast-check"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { isRefusal, type Sandbox } from "../../src/Llm/Containment.js"
import { start } from "../../src/Llm/Sandbox.js"
import { make as makeSpares, type Spares } from "../../src/Llm/Spares.js"
import { defaultLimits } from "../../src/OffloadConfig/Resources.js"
import { type Data, makeData, modes, namespaces, openService, sh, waitUntil, withLlm } from "./harness.js"

let data: Data
beforeEach(() => {
  data = makeData()
})
afterEach(() => {
  expect(data.all()).toEqual([])
  expect(data.folders()).toEqual([])
  data.remove()
})

const profile = { limits: defaultLimits, user: null }

const command = (script: string) => ({ argv: sh(script), cwd: null, env: {}, stdin: "", onBegin: () => {} })

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
      const sameOf = (text: string) => text.replaceAll(/offload-[^\n]*|attempt\.\d+|pid:\[\d+\]/g, "")
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
    const resources = JSON.stringify({ none: at(`${data.files}/none`), file: at("/dev/null") })
    await withLlm({ data: data.folder, resources }, "namespace", async ({ call }) => {
      const resultOf = async (resource: string) => ({ ...(await call({ resource })).result })
      expect(await resultOf("none")).toMatchObject({ _tag: "LlmSpawn", code: "ENOENT" })
      expect(await resultOf("file")).toMatchObject({ _tag: "LlmSpawn", code: "ENOTDIR" })
    })
  })
})

describe.each(modes)("the sandboxes that wait for a command in a %s", (mode) => {
  const take = async (spares: Pick<Spares, "take">) => {
    const sandbox = await spares.take()
    if (isRefusal(sandbox)) throw new Error(sandbox.detail)
    return sandbox
  }

  const end = async (sandbox: Sandbox) => {
    sandbox.discard()
    await sandbox.removed
  }

  it("end when no attempt has run for a while, and with the service", async () => {
    const { close, service } = await openService(mode, data.folder)
    const runOne = async (spares: Spares) => {
      const sandbox = await take(spares)
      sandbox.launch(command("sleep 60"))
      await waitUntil(() => data.folders().length === 2)
      await end(sandbox)
    }
    const impatient = makeSpares(() => start(service, profile), 100)
    await runOne(impatient)
    await waitUntil(() => data.all().length === 0 && data.folders().length === 0)
    await impatient.close()

    const patient = makeSpares(() => start(service, profile))
    await runOne(patient)
    expect(data.folders()).toHaveLength(1)
    await patient.close()
    expect(data.all()).toEqual([])
    expect(data.folders()).toEqual([])
    await close()
  })

  it("are as many as the attempts that run, and no more", async () => {
    await withLlm({ data: data.folder, llmCommand: ["sleep", "60"] }, mode, async ({ start }) => {
      const attempts = [start(), start(), start()]
      await waitUntil(() => data.folders().length === 6)
      await Promise.all(attempts.map(({ interrupt }) => interrupt()))
      expect(data.processes()).toEqual([])
      await waitUntil(() => data.folders().length === 3)
    })
  })

  it("say which folder is gone when somebody cleaned it away, and the next one makes it again", async () => {
    const { close, service } = await openService(mode, data.folder)
    const sandbox = await take({ take: () => start(service, profile) })
    rmSync(service.scratch.root, { recursive: true })
    const refused = sandbox.launch(command("true"))
    if (isRefusal(refused)) throw new Error(refused.detail)
    await refused.exited
    expect(refused.failure()).toMatchObject({
      code: "ENOENT",
      detail: expect.stringContaining(service.scratch.root),
    })
    await end(sandbox)
    const next = await take({ take: () => start(service, profile) })
    const started = next.launch(command("exit 3"))
    expect(isRefusal(started) ? started : (await started.exited)[0]).toBe(3)
    await end(next)
    await close()
  })
})
