import { spawnSync } from "node:child_process"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { metrics } from "../../src/Metrics.js"
import { Service, standIn } from "./Service.js"

const admin = { authorization: "Bearer root-key-0123456789" }
const user = { authorization: "Bearer user-key-0123456789" }

const service = new Service({
  OFFLOAD_LLM: "command",
  OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
  OFFLOAD_API_KEYS: JSON.stringify({
    root: { keys: ["root-key-0123456789"], admin: true },
    user: { keys: ["user-key-0123456789"] },
  }),
})
beforeAll(() => service.start())
afterAll(() => service.dispose())

const read = async () => String((await service.call("GET", "/metrics", undefined, admin)).body)

const value = (text: string, name: string, labels = ""): number => {
  const line = text.split("\n").find((each) => each.startsWith(`${name}${labels} `))
  return line === undefined ? Number.NaN : Number(line.split(" ").at(-1))
}

const hasPromtool = spawnSync("promtool", ["--version"]).status === 0
if (!hasPromtool) console.info("no promtool on this machine: the format of /metrics is not checked with it")

describe("metrics", () => {
  it("count what happens to jobs, by resource, state and error", async () => {
    const headers = { ...user, prefer: "wait=60" }
    await service.submit(JSON.stringify({ text: "a" }), {}, headers)
    await service.submit(JSON.stringify({ text: "b", millis: 300 }), {}, headers)
    await service.submit(JSON.stringify({ exit: 1 }), { maxAttempts: 2 }, headers)
    // Its permit comes back a moment after a job's end is told.
    await expect.poll(async () => value(await read(), "offload_permits_in_use", '{resource="llm"}')).toBe(0)
    const text = await read()
    expect(value(text, "offload_jobs_submitted_total", '{resource="llm"}')).toBe(3)
    expect(value(text, "offload_jobs", '{resource="llm",status="succeeded"}')).toBe(2)
    expect(value(text, "offload_jobs_ended_total", '{resource="llm",status="succeeded",error=""}')).toBe(2)
    expect(value(text, "offload_jobs_ended_total", '{resource="llm",status="failed",error="LlmExit"}')).toBe(1)
    expect(value(text, "offload_attempts_ended_total", '{resource="llm",outcome="failed",error="LlmExit"}')).toBe(2)
    expect(value(text, "offload_permits", '{resource="llm"}')).toBe(2)
    expect(value(text, "offload_children")).toBe(0)
    expect(value(text, "offload_service_seconds_count", '{resource="llm"}')).toBe(4)
    expect(value(text, "offload_service_seconds_sum", '{resource="llm"}')).toBeGreaterThan(0.3)
    expect(value(text, "offload_wait_seconds_count", '{resource="llm"}')).toBe(3)
    expect(value(text, "offload_store_seconds_count", '{operation="create"}')).toBe(3)
    expect(value(text, "offload_http_requests_total", '{method="POST",status="200"}')).toBe(3)
    expect(value(text, "offload_event_loop_delay_seconds", '{percentile="99"}')).toBeGreaterThanOrEqual(0)
    expect(value(text, "process_cpu_seconds_total")).toBeGreaterThan(0)
    expect(value(text, "process_resident_memory_bytes")).toBeGreaterThan(10_000_000)
  })

  it("are all in the table, and follow the running jobs", async () => {
    const { body } = await service.submit(JSON.stringify({ millis: 600_000 }), {}, user)
    await expect.poll(read).toMatch(/^offload_children 1$/m)
    const text = await read()
    expect(value(text, "offload_permits_in_use", '{resource="llm"}')).toBe(1)
    const names = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, kind]) => [name, kind])
    for (const [name, kind] of names) expect(metrics).toHaveProperty([name ?? "", "kind"], kind)
    await service.call("POST", `/jobs/${body.id}/cancel`, undefined, user)
  })

  it("are an admin's", async () => {
    expect((await service.call("GET", "/metrics", undefined, user)).status).toBe(403)
    expect((await service.call("GET", "/metrics")).status).toBe(401)
  })

  it.skipIf(!hasPromtool)("are as promtool wants them", async () => {
    const { status, stderr, stdout } = spawnSync("promtool", ["check", "metrics"], { input: await read() })
    expect(`${stdout}${stderr}`).toBe("")
    expect(status).toBe(0)
  })
})
