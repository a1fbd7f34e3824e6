import { mkdtempSync, realpathSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { type Calls, type Data, makeData, modes, sh, withLlm } from "./harness.js"

let data: Data
beforeEach(() => {
  data = makeData()
})
afterEach(() => {
  expect(data.processes()).toEqual([])
  data.remove()
})

const use = <A>(resources: Record<string, unknown>, calls: (calls: Calls) => Promise<A>) =>
  withLlm({ data: data.folder, resources: JSON.stringify(resources) }, "auto", calls)

/** Lines of Claude Code's and of OpenCode's stream, as far as their adapters read them. */
const step = (cost: number, reason: string) =>
  JSON.stringify({ type: "step_finish", part: { reason, cost, tokens: { input: 10, output: 1 } } })
const said = (text: string) => JSON.stringify({ type: "text", part: { text } })

describe("several resources", () => {
  it("run each its own command, model, output limit and environment", async () => {
    process.env.RESOURCES_TEST = "seen"
    try {
      await use(
        {
          one: { adapter: "command", command: sh("echo one $RESOURCES_TEST $1", "{model}"), env: ["RESOURCES_TEST"] },
          two: { adapter: "command", command: sh("echo two $RESOURCES_TEST $1", "{model}"), model: "m2" },
          small: { adapter: "command", command: sh("head -c 5000 /dev/zero | tr '\\0' a"), maxOutputBytes: 1024 },
        },
        async ({ call, llm }) => {
          expect(llm.adapter("one")).toBe("command")
          expect((await call({ resource: "one" })).text).toBe("one seen\n")
          expect((await call({ resource: "two" })).text).toBe("two m2\n")
          expect((await call({ resource: "two", input: { prompt: "p", model: "mine" } })).text).toBe("two mine\n")
          expect((await call({ resource: "small" })).result).toMatchObject({
            _tag: "LlmOutputTooLarge",
            limitBytes: 1024,
          })
        },
      )
    } finally {
      delete process.env.RESOURCES_TEST
    }
  })

  it("start a command line that is known by another command", async () => {
    const script = `[ "$1" = run ] && [ "$2" = --format ] && echo '${said("hello")}' && echo '${step(0.5, "stop")}'`
    const answer = await use({ oc: { adapter: "opencode", command: sh(script) } }, ({ call, llm }) => {
      expect([llm.adapter("oc"), llm.command("oc")]).toEqual(["opencode", "/bin/sh"])
      return call({ resource: "oc" })
    })
    expect(answer.text).toBe("hello")
    expect(answer.result).toEqual({ usage: { inputTokens: 10, outputTokens: 1, costUsd: 0.5 } })
  })

  it("work in the folder that they name, which stays", async () => {
    const folder = mkdtempSync(join(realpathSync(tmpdir()), "llm-folder-"))
    try {
      const answer = await use({ here: { adapter: "command", command: ["pwd"], folder } }, ({ call }) =>
        call({ resource: "here" }),
      )
      expect(answer.text.trim()).toBe(folder)
      expect(
        (
          await use({ here: { adapter: "command", command: ["pwd"], folder } }, ({ call }) =>
            call({ resource: "here" }),
          )
        ).text.trim(),
      ).toBe(folder)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it("hold their processes to the limits of the system", async () => {
    const limits = { openFiles: 40, fileBytes: 2048, cpuSeconds: 7, memoryBytes: 512 * 2 ** 20 }
    const command = sh(
      "ulimit -n; ulimit -f; ulimit -t; ulimit -v; head -c 9999 /dev/zero > too-large; ls -l | awk '{print $5}'",
    )
    const answer = await use({ tight: { adapter: "command", command, limits } }, ({ call }) =>
      call({ resource: "tight" }),
    )
    const [files, blocks, cpu, kibibytes, ...sizes] = answer.text.trim().split(/\s+/).map(Number)
    expect([files, blocks, cpu, kibibytes]).toEqual([40, 4, 7, 512 * 2 ** 10])
    expect(Math.max(...sizes)).toBe(2048)
  })
})

const root = process.getuid?.() === 0

describe("a user of a resource", () => {
  it.skipIf(!root).each(modes)("runs its commands, with its home and in a folder of its own: %s", async (mode) => {
    const command = sh("id -un; echo $HOME $USER; touch here $TMPDIR/there && stat -c '%U %a' . $TMPDIR; cat")
    const resources = JSON.stringify({ other: { adapter: "command", command, user: "nobody" } })
    const { result, text } = await withLlm({ data: data.folder, resources }, mode, ({ call }) =>
      call({ resource: "other", input: { prompt: "p" } }),
    )
    expect(result).toEqual({})
    expect(text).toBe("nobody\n/nonexistent nobody\nnobody 700\nnobody 700\np")
  })

  it("that the machine does not have refuses the start", async () => {
    const resources = JSON.stringify({ other: { adapter: "command", command: ["true"], user: "no-such-user" } })
    await expect(withLlm({ data: data.folder, resources }, "auto", async () => {})).rejects.toThrow(
      root ? "no user 'no-such-user'" : "only a service that runs as root",
    )
  })
})

describe.each(modes)("a command that does not exit after its final event, in a %s", (mode) => {
  it.each(["sleep 60", "trap '' TERM; sleep 60; sleep 60"])("is ended, and its answer counts: %s", async (rest) => {
    const command = sh(`echo '${said("hello")}'; echo '${step(0.5, "stop")}'; ${rest}`)
    const resources = JSON.stringify({ oc: { adapter: "opencode", command } })
    const answer = await withLlm({ data: data.folder, resources }, mode, ({ call }) =>
      call({ resource: "oc", timeoutMillis: 60_000 }),
    )
    expect(answer).toMatchObject({ text: "hello", result: { usage: { costUsd: 0.5 } } })
    expect(answer.ending?.signals[0]).toBe("SIGTERM")
    expect(answer.millis).toBeLessThan(50_000)
  })
})

describe("the cost of an attempt", () => {
  const spends = sh(
    `echo '${said("begun")}'; echo '${step(0.4, "tool-calls")}'; echo '${step(0.4, "tool-calls")}'; echo '${said("more")}'; sleep 60`,
  )

  it("is told while it runs, and ends it at its limit with what came before", async () => {
    const answer = await use({ oc: { adapter: "opencode", command: spends } }, ({ call }) =>
      call({ resource: "oc", maxCostUsd: 0.5 }),
    )
    expect({ ...answer.result }).toMatchObject({ _tag: "BudgetExceeded", spentUsd: 0.8, limitUsd: 0.5 })
    expect(answer.usages.at(-1)).toEqual({ inputTokens: 20, outputTokens: 2, costUsd: 0.8 })
    expect(answer.text).toContain("begun")
    expect(answer.ending).toMatchObject({ signals: ["SIGTERM"] })
    expect(answer.millis).toBeLessThan(30_000)
  })

  it("does not take back an answer that is complete", async () => {
    const complete = sh(`echo '${said("all")}'; echo '${step(0.8, "stop")}'`)
    const answer = await use({ oc: { adapter: "opencode", command: complete } }, ({ call }) =>
      call({ resource: "oc", maxCostUsd: 0.5 }),
    )
    expect(answer).toMatchObject({ text: "all", result: { usage: { costUsd: 0.8 } }, ending: null })
  })

  it("is watched by Claude Code itself, which says that its budget is spent", async () => {
    const result = JSON.stringify({
      type: "result",
      subtype: "error_max_budget_usd",
      is_error: true,
      total_cost_usd: 0.6,
    })
    const script = `for arg; do [ "$arg" = --max-budget-usd=0.5 ] && echo '${result}'; done; exit 1`
    const answer = await use({ cc: { adapter: "claude", command: sh(script) } }, ({ call }) =>
      call({ resource: "cc", maxCostUsd: 0.5 }),
    )
    expect({ ...answer.result }).toMatchObject({ _tag: "BudgetExceeded", spentUsd: 0.6, limitUsd: 0.5 })
  })
})

describe.each(modes)("the ending of an attempt in a %s", (mode) => {
  const ended = (script: string, killGrace = 60_000) =>
    withLlm({ data: data.folder, llmCommand: sh(script), killGrace }, mode, async ({ start }) => {
      const attempt = start()
      await expect.poll(attempt.text).toContain("up")
      await attempt.interrupt()
      return attempt.ending()
    })

  it("tells that SIGTERM was enough, and how long it took", async () => {
    const ending = await ended("echo up; exec sleep 60")
    expect(ending).toMatchObject({ signals: ["SIGTERM"], signal: "SIGTERM" })
    expect(ending?.millis).toBeLessThan(30_000)
  })

  it("tells what the command made of SIGTERM", async () => {
    expect(await ended("trap 'exit 3' TERM; echo up; sleep 60 & wait")).toMatchObject({ exitCode: 3, signal: null })
  })

  it("tells that it took SIGKILL", async () => {
    const ending = await ended("trap '' TERM; echo up; while :; do sleep 1; done", 300)
    expect(ending).toMatchObject({ signals: ["SIGTERM", "SIGKILL"], signal: "SIGKILL" })
    expect(ending?.millis).toBeGreaterThanOrEqual(300)
  })

  it("is not told where it ended by itself", async () => {
    const answer = await withLlm({ data: data.folder, llmCommand: sh("echo done") }, mode, ({ call }) => call())
    expect(answer).toMatchObject({ text: "done\n", ending: null })
  })
})
