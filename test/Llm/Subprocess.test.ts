import {
  chmodSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { find } from "../../src/Llm/Executable.js"
import { fastest } from "../fastest.js"
import { type Data, killLaunchers, makeData, modes, sh, waitUntil, withLlm } from "./harness.js"

let data: Data
beforeEach(() => {
  data = makeData()
})
afterEach(async () => {
  expect(data.all()).toEqual([])
  expect(data.folders()).toEqual([])
  data.remove()
})

/** The arguments of every process of the machine. */
const commandLines = (): ReadonlyArray<string> =>
  readdirSync("/proc").flatMap((name) => {
    try {
      return /^\d+$/.test(name) ? [readFileSync(`/proc/${name}/cmdline`, "utf8")] : []
    } catch {
      return []
    }
  })

describe.each(modes)("a command in a %s", (mode) => {
  const run = <A>(
    command: readonly [string, ...ReadonlyArray<string>],
    use: Parameters<typeof withLlm<A>>[2],
    settings = {},
  ) => withLlm({ data: data.folder, llmCommand: [command[0], ...command.slice(1)], ...settings }, mode, use)

  it("gets the prompt on its standard input and answers on its standard output", async () => {
    const answer = await run(sh("cat; echo"), ({ call }) => call({ input: { prompt: "çà va? 🙂" } }))
    expect(answer.text).toBe("çà va? 🙂\n")
    expect(answer.result).toEqual({})
  })

  it("is given the system prompt first where it has no place for it", async () => {
    const answer = await run(sh("cat"), ({ call }) => call({ input: { prompt: "p", system: "s" } }))
    expect(answer.text).toBe("s\n\np")
  })

  it("is given fields in their places", async () => {
    const command = sh('printf "%s|" "$@"; cat', "--model", "{model}", "--system", "{system}", "end")
    const answers = await run(command, async ({ call }) => [
      await call({ input: { prompt: "p", model: "big one", system: "- '$(id)' \n" } }),
      await call({ input: { prompt: "p" } }),
    ])
    expect(answers.map(({ text }) => text)).toEqual(["--model|big one|--system|- '$(id)' \n|end|p", "end|p"])
  })

  it("is not found", async () => {
    const answer = await run(["no-such-command-anywhere"], ({ call }) => call())
    expect(answer.result).toMatchObject({ _tag: "LlmNotFound", command: "no-such-command-anywhere" })
  })

  it("is not found where it may not be executed", async () => {
    const file = join(data.files, "plain")
    writeFileSync(file, "#!/bin/sh\n")
    chmodSync(file, 0o644)
    expect((await run([file], ({ call }) => call())).result).toMatchObject({ _tag: "LlmNotFound" })
    expect((await run([data.files], ({ call }) => call())).result).toMatchObject({ _tag: "LlmNotFound" })
  })

  it("fails with its exit code and the end of its standard error, and no word of the shell around it", async () => {
    const script = 'i=0; while [ $i -lt 9000 ]; do echo "line $i é" >&2; i=$((i+1)); done; echo partial; exit 3'
    const { result, text } = await run(sh(script), ({ call }) => call())
    expect(result).toMatchObject({ _tag: "LlmExit", exitCode: 3, signal: null })
    const stderr = "stderr" in result ? result.stderr : ""
    expect(stderr.endsWith("line 8999 é")).toBe(true)
    expect(Buffer.byteLength(stderr)).toBeLessThanOrEqual(4096)
    expect(text).toBe("partial\n")
  })

  it.each([
    ["TERM", 143],
    ["INT", 130],
    ["KILL", 137],
    ["SEGV", 139],
  ])("is told apart when a SIG%s that nobody here sent ends it", async (signal, exitCode) => {
    const { result } = await run(sh(`kill -${signal} $$; sleep 5`), ({ call }) => call())
    expect({ ...result }).toMatchObject({ _tag: "LlmExit", exitCode, signal: `SIG${signal}`, stderr: "" })
  })

  it("that hangs is stopped at its timeout, and what it said before is kept, on standard error too", async () => {
    const answer = await run(sh("echo so far; echo waiting for the network >&2; sleep 60"), ({ call }) =>
      call({ timeoutMillis: 2500 }),
    )
    expect({ ...answer.result }).toMatchObject({
      _tag: "LlmTimeout",
      millis: 2500,
      stderr: "waiting for the network",
    })
    expect(answer.text).toBe("so far\n")
    expect(answer.millis).toBeLessThan(30_000)
  })

  it("that ignores SIGTERM, with all its children, is gone within grace + 1 s", async () => {
    const script =
      "trap '' TERM INT HUP; (trap '' TERM; while :; do sleep 1; done) & echo up; while :; do sleep 1; done"
    await run(sh(script), async ({ start }) => {
      const millis = await fastest(500 + 1000, async () => {
        const attempt = start()
        await waitUntil(() => attempt.text() === "up\n")
        const millis = await attempt.interrupt()
        expect(data.processes()).toEqual([])
        expect(millis).toBeGreaterThanOrEqual(490)
        return millis
      })
      expect(millis).toBeLessThan(500 + 1000)
    })
  })

  it("that is stopped by SIGSTOP can be ended", async () => {
    await run(sh("echo up; kill -STOP $$; sleep 60"), async ({ start }) => {
      const attempt = start()
      await waitUntil(() => attempt.text() === "up\n")
      expect(await attempt.interrupt()).toBeLessThan(30_000)
      expect(data.processes()).toEqual([])
    })
  })

  it("handles SIGTERM: it has its grace, its last words are kept, and it is not killed", async () => {
    const script = "trap 'sleep 0.2; echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    await run(
      sh(script),
      async ({ start }) => {
        const attempt = start()
        await waitUntil(() => attempt.text() === "up\n")
        const millis = await attempt.interrupt()
        expect(attempt.text()).toBe("up\nbye\n")
        expect(millis).toBeLessThan(30_000)
      },
      { killGrace: 60_000 },
    )
  })

  it("is gone when its interruption returns, at whatever moment that comes", async () => {
    await run(sh("echo up; sleep 60 & sleep 60"), async ({ start }) => {
      for (const delay of [0, 0, 1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40, 60]) {
        const attempt = start()
        if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay))
        await attempt.interrupt()
        expect(data.processes()).toEqual([])
        // What is left is of the sandbox that waits for the next one; the end of the test finds any other.
        await waitUntil(() => data.folders().length <= 1)
      }
    })
  })

  it("may close its standard input early on a large prompt", async () => {
    const prompt = "x".repeat(5_000_000)
    await run(sh("exec 0<&-; sleep 0.1; echo fine"), async ({ call }) => {
      expect(await call({ input: { prompt } })).toMatchObject({ text: "fine\n", result: {} })
    })
    await run(sh("exit 0"), async ({ call }) => {
      expect(await call({ input: { prompt } })).toMatchObject({ text: "", result: {} })
    })
    await run(sh("wc -c"), async ({ call }) => {
      expect((await call({ input: { prompt } })).text.trim()).toBe("5000000")
    })
  })

  it("that floods is stopped at the limit, and the first part is kept in whole characters", async () => {
    const before = process.memoryUsage().rss
    const plain = sh("printf 12; while :; do echo '🙂🙂🙂🙂🙂🙂🙂🙂'; done")
    const answer = await run(plain, ({ call }) => call(), { maxOutputBytes: 1001 })
    expect(answer.result).toMatchObject({ _tag: "LlmOutputTooLarge", limitBytes: 1001 })
    const bytes = Buffer.byteLength(answer.text)
    expect(bytes).toBeLessThanOrEqual(1001)
    expect(bytes).toBeGreaterThan(1001 - 4)
    expect(answer.text).not.toContain("\ufffd")
    const large = await run(sh("head -c 1000000000 /dev/zero | tr '\\0' a"), ({ call }) => call())
    expect(large.result).toMatchObject({ _tag: "LlmOutputTooLarge" })
    expect(large.text).toBe("a".repeat(1_048_576))
    expect(large.millis).toBeLessThan(30_000)
    expect(process.memoryUsage().rss - before).toBeLessThan(150_000_000)
  })

  it("that floods its standard error is read on", async () => {
    const answer = await run(sh("head -c 50000000 /dev/zero | tr '\\0' e >&2; echo done"), ({ call }) => call())
    expect(answer).toMatchObject({ text: "done\n", result: {} })
  })

  it("may split a character over chunks", async () => {
    const script = String.raw`printf 'a\360\237'; sleep 0.1; printf '\231'; sleep 0.1; printf '\202b'; sleep 0.1; printf 'c\377\360\237'`
    const answer = await run(sh(script), ({ call }) => call())
    expect(answer.text).toBe("a🙂bc\ufffd\ufffd")
    expect(answer.pieces.every((piece) => piece !== "")).toBe(true)
  })

  it("may leave a grandchild that holds its standard output", async () => {
    const answer = await run(sh("sleep 60 & echo done"), ({ call }) => call())
    expect(answer).toMatchObject({ text: "done\n", result: {} })
    expect(answer.millis).toBeLessThan(30_000)
    expect(data.processes()).toEqual([])
  })

  it.each(["echo done", "echo done; exit 1", "echo done; sleep 60"])(
    "cannot leave a grandchild in a session of its own: %s",
    async (end) => {
      const answer = await run(
        sh(`setsid sh -c 'trap "" TERM HUP; sleep 61; sleep 62' & setsid -f sleep 63; ${end}`),
        ({ call }) => call({ timeoutMillis: 2500 }),
      )
      expect(answer.text).toBe("done\n")
      expect(data.processes()).toEqual([])
      expect(answer.millis).toBeLessThan(30_000)
    },
  )

  it("cannot leave a child that has thrown its environment away", async () => {
    const seconds = `60.${process.pid}${Date.now()}`
    const sleeps = () => commandLines().filter((line) => line.includes(seconds) && !line.includes("echo"))
    await run(sh(`env -i sleep ${seconds} & sleep 0.1; echo up; cat`), async ({ start, call }) => {
      expect((await call()).text).toBe("up\nhello")
      expect(sleeps()).toEqual([])
      const attempt = start()
      await attempt.interrupt()
      expect(sleeps()).toEqual([])
    })
  })

  it("sees what it needs of the environment, and no more", async () => {
    process.env.OFFLOAD_API_KEYS = "canary"
    process.env.LC_TEST = "locale"
    process.env.ALLOWED_BY_NAME = "allowed"
    try {
      const { text } = await run(sh("env"), ({ call }) => call(), { llmEnv: ["ALLOWED_BY_NAME"] })
      expect(text).not.toContain("canary")
      expect(text).toContain("LC_TEST=locale")
      expect(text).toContain("ALLOWED_BY_NAME=allowed")
      expect(text).toContain(`PATH=${process.env.PATH}`)
      expect(text).toMatch(/OFFLOAD_ATTEMPT=[0-9a-f]{16}:\d+\.\d+:attempt\.\d+/)
    } finally {
      delete process.env.OFFLOAD_API_KEYS
      delete process.env.LC_TEST
      delete process.env.ALLOWED_BY_NAME
    }
  })

  it("works in a private folder of its own, which is removed with what it wrote", async () => {
    const script = "stat -c %a .; ls -A | wc -l; mkdir -p a/b; echo x > a/b/c; chmod 500 a/b"
    const { text } = await run(sh(script), ({ call }) => call())
    expect(text.trim().split("\n").map(Number)).toEqual([700, 0])
  })

  it("inherits no descriptor but the three standard ones", async () => {
    const file = join(data.files, "open")
    writeFileSync(file, "")
    const descriptor = openSync(file, "r")
    try {
      const { text } = await run(sh("for fd in /proc/$$/fd/*; do readlink $fd; done"), ({ call }) => call())
      expect(text).not.toContain(file)
      expect(text.match(/socket|-fork-/g)).toHaveLength(3)
    } finally {
      closeSync(descriptor)
    }
  })

  it("shows its prompt to nobody in its arguments", async () => {
    const prompt = "a very secret prompt"
    await run(sh("cat > /dev/null; echo up; sleep 60"), async ({ start }) => {
      const attempt = start({ input: { prompt } })
      await waitUntil(() => attempt.text() === "up\n")
      expect(commandLines().filter((line) => line.includes(prompt))).toEqual([])
      await attempt.interrupt()
    })
  })

  it("cannot be started with arguments that the system does not take", async () => {
    await run(sh('printf "%s" "$2"', "--model", "{model}"), async ({ call }) => {
      const refused = async (model: string) => {
        const { result } = await call({ input: { prompt: "p", model } })
        expect(JSON.stringify(result)).not.toContain(model.slice(0, 20))
        return result
      }
      expect(await refused("nul\0byte-in-a-long-model-name")).toMatchObject({ _tag: "LlmSpawn", code: "EINVAL" })
      expect(await refused("m".repeat(200_000))).toMatchObject({ _tag: "LlmSpawn", code: "E2BIG" })
      expect(await refused("--dangerously-skip-permissions")).toMatchObject({ _tag: "LlmSpawn", code: "EINVAL" })
    })
  })

  it("is started whatever becomes of PATH, and not where its launcher is gone and so is Perl", async () => {
    const path = process.env.PATH
    const tools = join(data.files, "tools")
    mkdirSync(tools)
    symlinkSync(find("perl") ?? "", join(tools, "perl"))
    process.env.PATH = tools
    try {
      await run([process.execPath, "--eval", "console.log(1)"], async ({ call }) => {
        process.env.PATH = data.files
        rmSync(tools, { recursive: true })
        expect(await call()).toMatchObject({ text: "1\n", result: {} })
        await killLaunchers()
        const { result } = await call()
        expect({ ...result }).toMatchObject({
          _tag: "LlmSpawn",
          code: "ENOENT",
          reason: expect.stringContaining("install the package perl"),
        })
      })
    } finally {
      process.env.PATH = path
    }
  })

  it("whose answer cannot be taken is ended, and the bug is a defect", async () => {
    await run(sh("echo up; sleep 60"), async ({ call }) => {
      const onText = () => {
        throw new Error("a bug")
      }
      await expect(call({ onText })).rejects.toThrow("a bug")
      expect(data.processes()).toEqual([])
    })
  })
})
