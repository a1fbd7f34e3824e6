import { spawnSync } from "node:child_process"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterEach, describe, expect, it } from "vitest"
import { type Json, Service, standIn, waitUntil } from "./Service.js"

let service: Service
afterEach(() => service.dispose())

const refusal = (env: Record<string, string>): { readonly status: number | null; readonly output: string } => {
  const { status, stderr, stdout } = spawnSync(
    process.execPath,
    [fileURLToPath(new URL("../../dist/bundle/main.js", import.meta.url))],
    { cwd: service.data, env: { PATH: process.env.PATH, ...env }, timeout: 120_000, encoding: "utf8" },
  )
  return { status, output: stdout + stderr }
}

describe("a start", () => {
  it("serves, and says where, what it keeps, what it runs and how to try it", async () => {
    service = new Service()
    await service.start()
    expect((await service.call("GET", "/health/ready")).status).toBe(200)
    const messages = service.lines.map(({ message }) => String(message))
    expect(messages.join("\n")).toMatch(/listening on http:\/\/127\.0\.0\.1:\d+/)
    expect(messages.join("\n")).toMatch(/store: lmdb/)
    expect(messages.join("\n")).toMatch(/resource llm: demo .*2 permits/)
    expect(messages.join("\n")).toMatch(/curl .*\/jobs/)
  })

  it("runs the demo model where nothing else is installed, and says so in the job", async () => {
    service = new Service({ PATH: "/usr/bin:/bin", OFFLOAD_LLM: "auto" })
    await service.start()
    const { body } = await service.submit("Why is the sky blue?", {}, { prefer: "wait=30" })
    expect(body).toMatchObject({ status: "succeeded", attempts: [{ adapter: "demo" }] })
    expect(body.output.text).toMatch(/demo/i)
    expect(body.output.usage.outputTokens).toBeGreaterThan(0)
  })

  it.each([
    [{ PORT: "http" }, /PORT.*a port, 0 to 65535/],
    [{ OFFLOAD_PERMITS: "0" }, /OFFLOAD_PERMITS.*1 to 1000/],
    [{ OFFLOAD_LLM: "gpt" }, /OFFLOAD_LLM.*`claude`/],
    [{ OFFLOAD_LLM_COMMAND: "my-llm --fast" }, /OFFLOAD_LLM_COMMAND.*a JSON array/],
    [{ OFFLOAD_LLM: "command" }, /OFFLOAD_LLM_COMMAND/],
    [{ HOST: "0.0.0.0" }, /HOST.*loopback/],
    [{ OFFLOAD_DATA: "/dev/null/none" }, /\/dev\/null\/none/],
  ])("with %j is refused, naming what it takes", (env, expected) => {
    service = new Service()
    const { output, status } = refusal({ OFFLOAD_LLM: "demo", ...env })
    expect(output).toMatch(expected)
    expect(output).not.toMatch(/\n\s+at /)
    expect(status).toBe(1)
  })

  it("in the folder of a running service is refused, and changes nothing for that one", async () => {
    service = new Service()
    await service.start()
    const { output, status } = refusal({ PORT: "0", OFFLOAD_LLM: "demo", OFFLOAD_DATA: `${service.data}/data` })
    expect(status).toBe(1)
    expect(output).toMatch(/in use|another/i)
    expect((await service.call("GET", "/health/ready")).status).toBe(200)
  })

  it("on a port that is taken is refused at once, and touches no job, no outcome and no process", async () => {
    const work = { OFFLOAD_LLM: "command", OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")), OFFLOAD_PERMITS: "1" }
    service = new Service({ ...work, OFFLOAD_DRAIN_SECONDS: "20" })
    await service.start()
    const go = join(service.data, "go")
    const submit = async () => (await service.submit(JSON.stringify({ text: "x", until: go }))).body.id
    const [running, queued] = [await submit(), await submit()]
    await waitUntil(async () => (await service.call("GET", `/jobs/${running}`)).body.output?.text === "x")
    await service.kill()
    // A start that looked into the spool would fail of it.
    const spool = join(service.data, "data", "spool")
    mkdirSync(spool, { recursive: true })
    writeFileSync(join(spool, "unreadable.json"), "")
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve))
    const address = other.address()
    const port = address instanceof Object ? String(address.port) : ""
    const files = () => readFileSync(join(service.data, "data", "store", "data.mdb"))
    const before = files()
    const { output, status } = refusal({ ...work, PORT: port, OFFLOAD_DATA: join(service.data, "data") })
    await new Promise((resolve) => other.close(resolve))
    expect(output).toMatch(/EADDRINUSE|in use/)
    expect(status).toBe(1)
    // Nothing was written: no job was begun or rescued, and the folder was not taken.
    expect(files().equals(before)).toBe(true)
    expect(output).not.toMatch(/draining|rescued|begun/)
    rmSync(join(spool, "unreadable.json"))
    await service.start()
    writeFileSync(go, "")
    const outcomes = ({ attempts }: Json) => attempts.map(({ outcome }: Json) => outcome)
    expect(outcomes(await service.ended(running))).toEqual(["orphaned", "succeeded"])
    expect(outcomes(await service.ended(queued))).toEqual(["succeeded"])
  })
})
