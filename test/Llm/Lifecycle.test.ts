import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { readdirSync } from "node:fs"
import { Effect } from "effect"
import fc from "fast-check"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { fastest } from "../fastest.js"
import { type Data, makeData, modes, sh, standIn, waitUntil, withLlm } from "./harness.js"

let data: Data
beforeEach(() => {
  data = makeData()
})
afterEach(() => {
  data.remove()
})

const run = Effect.runPromise

/** Without the four pipes of each sandbox that waits for an attempt. */
const descriptors = (): number => readdirSync("/proc/self/fd").length - 4 * data.folders().length

/** A service in a process of its own, whose attempts run a command. */
const serve = async (containment: string, command: ReadonlyArray<string>, attempts = 2) => {
  const service: ChildProcess = spawn(
    process.execPath,
    [standIn("service.mjs"), data.folder, containment, String(attempts), JSON.stringify(command)],
    { stdio: ["ignore", "pipe", "inherit"] },
  )
  let said = ""
  service.stdout?.on("data", (chunk) => {
    said += chunk
  })
  const exited = new Promise((resolve) => service.once("exit", resolve))
  await waitUntil(() => said.split("up\n").length - 1 >= attempts)
  return { kill: (signal: NodeJS.Signals) => service.kill(signal), exited }
}

describe.each(modes)("the attempts of a service, in a %s", (mode) => {
  const stubborn =
    "trap '' TERM HUP INT; (trap '' TERM HUP; while :; do sleep 1; done) & echo up; while :; do sleep 1; done"

  it("do not outlive its kill -9 by a second", async () => {
    const millis = await fastest(1000, async () => {
      const service = await serve(mode, sh(stubborn))
      expect(data.processes().length).toBeGreaterThanOrEqual(6)
      service.kill("SIGKILL")
      await service.exited
      const began = Date.now()
      await waitUntil(() => data.processes().length === 0)
      return Date.now() - began
    })
    expect(millis).toBeLessThan(1000)
  })

  it("do not outlive it at whatever moment the kill -9 comes", async () => {
    for (let i = 0; i < 4; i++) {
      // Attempts start all the time, so that some are in the middle of it.
      const service = await serve(mode, sh("echo up"), 4)
      await new Promise((resolve) => setTimeout(resolve, i * 7))
      service.kill("SIGKILL")
      await service.exited
      await waitUntil(() => data.processes().length === 0)
    }
    await withLlm({ data: data.folder, llmCommand: ["true"] }, mode, ({ llm }) => run(llm.killOrphans))
    expect(data.folders()).toEqual([])
  })

  it("that escaped in a session of their own die with it, or are swept at the next start", async () => {
    const service = await serve(mode, sh("setsid sh -c 'echo up; sleep 600; sleep 600' & sleep 600"))
    service.kill("SIGKILL")
    await service.exited
    if (mode === "namespace") await waitUntil(() => data.processes().length === 0)
    else await waitUntil(() => data.processes().length <= 4)
    const left = data.processes().length
    // Those of two attempts, and of the two sandboxes that waited for the next ones, where nobody could remove them.
    expect(data.folders().length).toBeLessThanOrEqual(4)

    await withLlm({ data: data.folder, llmCommand: ["true"] }, mode, async ({ llm }) => {
      expect(await run(llm.killOrphans)).toBeGreaterThanOrEqual(left)
      expect(data.processes()).toEqual([])
      expect(data.folders()).toEqual([])
      expect(await run(llm.killOrphans)).toBe(0)
    })
  })
})

describe("killOrphans", () => {
  it("spares what is not an earlier run's of this installation", async () => {
    const other = makeData()
    const spared = spawn("sleep", ["60"], {
      env: { ...process.env, OFFLOAD_ATTEMPT: `${"0".repeat(16)}:1.1:attempt.1` },
      stdio: "ignore",
    })
    const alive = await serve("group", sh("echo up; sleep 600"))
    try {
      await withLlm({ data: data.folder, llmCommand: cat }, "group", async ({ llm, start }) => {
        const own = start()
        await waitUntil(() => own.text() === "up\n")
        const before = data.processes()
        // Two running services may share a folder where the truth is elsewhere: neither ends the other's work.
        expect(await run(llm.killOrphans)).toBe(0)
        expect(data.processes()).toEqual(expect.arrayContaining([...before]))
        await own.interrupt()
      })
      expect(spared.exitCode ?? spared.signalCode).toBeNull()
    } finally {
      spared.kill("SIGKILL")
      alive.kill("SIGKILL")
      await alive.exited
      other.remove()
    }
    await waitUntil(() => data.processes().length === 0)
  })

  it("spares the service even where it runs inside of an attempt itself", async () => {
    const script = `OFFLOAD_ATTEMPT=$1:1.1:outer; export OFFLOAD_ATTEMPT; exec "$2" "$3" "$4"`
    const program = `
      const { killWhere } = await import(${JSON.stringify(new URL("../../dist/Llm/Processes.js", import.meta.url).href)})
      console.log(JSON.stringify(await killWhere(({ cookie }) => cookie?.endsWith(":outer") === true)))`
    const said = execFileSync("/bin/sh", ["-c", script, "sh", "f".repeat(16), process.execPath, "--eval", program])
    expect(JSON.parse(String(said))).toEqual({ killed: 0, left: false })
  })
})

const cat = sh("echo up; sleep 600")

describe("a machine without descriptors", () => {
  it("fails attempts as LlmSpawn, keeps the service alive, and recovers", () => {
    const said = execFileSync("/bin/sh", [
      "-c",
      'ulimit -n 1024; exec "$@"',
      "sh",
      process.execPath,
      standIn("exhausted.mjs"),
      data.folder,
    ])
    const [first, ...rest] = JSON.parse(String(said))
    const last = rest.pop()
    expect(first).toMatchObject({ text: "hello", result: { _tag: "Right" } })
    expect(rest).toHaveLength(4)
    for (const { result } of rest) {
      expect(result).toMatchObject({ _tag: "Left", left: { _tag: "LlmSpawn", code: "EMFILE" } })
    }
    expect(last).toMatchObject({ text: "hello", result: { _tag: "Right" } })
  })
})

describe.each(modes)("many attempts in a %s", (mode) => {
  it("leak no descriptor, folder, process or listener", async () => {
    await withLlm(
      { data: data.folder, llmCommand: sh("cat; sleep 60 & exit $(( $$ % 2 ))") },
      mode,
      async ({ call }) => {
        await Promise.all([call(), call(), call(), call()])
        const before = descriptors()
        const warnings: Array<Error> = []
        const onWarning = (warning: Error) => warnings.push(warning)
        process.on("warning", onWarning)
        for (let i = 0; i < 25; i++) await Promise.all([call(), call(), call(), call()])
        process.off("warning", onWarning)
        expect(warnings).toEqual([])
        // At most four sandboxes wait for a command, with four streams each, of which there may have been none before.
        await waitUntil(() => data.folders().length <= 4 && descriptors() <= before + 16)
        expect(data.processes()).toEqual([])
      },
    )
  })

  it("leave no process, however they end", async () => {
    const succeeds = "cat"
    const fails = "cat; echo no >&2; exit 4"
    const floods = "while :; do echo y; done"
    const hangs = "trap '' TERM; (sleep 60 &); setsid -f sleep 60; sleep 60"
    const attempt = fc.record({
      script: fc.constantFrom(succeeds, fails, floods, hangs),
      timeoutMillis: fc.constantFrom(5, 40, 300),
      interruptAfter: fc.option(fc.integer({ min: 0, max: 100 }), { nil: null }),
    })
    await withLlm(
      { data: data.folder, killGrace: 100, llmCommand: ["/bin/sh", "-c", 'eval "$1"', "sh", "{model}"] },
      mode,
      ({ start }) =>
        fc.assert(
          fc.asyncProperty(fc.array(attempt, { minLength: 1, maxLength: 6 }), async (mix) => {
            await Promise.all(
              mix.map(async ({ interruptAfter, script, timeoutMillis }) => {
                const { answer, interrupt } = start({ timeoutMillis, input: { prompt: "p", model: script } })
                if (interruptAfter === null) return answer()
                await new Promise((resolve) => setTimeout(resolve, interruptAfter))
                return interrupt()
              }),
            )
            expect(data.processes()).toEqual([])
          }),
          { numRuns: 50 },
        ),
    )
  })
})
