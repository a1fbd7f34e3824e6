/** The data folder is deleted while the service runs. */
import { existsSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, expect, it } from "vitest"
import { processesWith, Service, standIn, waitUntil } from "./Service.js"

const service = new Service({
  OFFLOAD_LLM: "command",
  OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
  OFFLOAD_DRAIN_SECONDS: "1",
})
afterEach(() => service.dispose())

it("a deleted data folder is noticed: no 202, not ready, a line that says what to do, and no outcome is lost", async () => {
  await service.start()
  const until = join(service.data, "until")
  const { body } = await service.submit(JSON.stringify({ text: "kept", until }))
  await waitUntil(() => processesWith(`${body.id}.1`).length > 0)
  const data = join(service.data, "data")
  rmSync(data, { recursive: true })
  for (const prompt of ["x", "y"]) {
    const refused = await service.submit(prompt)
    expect([refused.status, refused.body.type]).toEqual([503, "/problems/store-unavailable"])
  }
  expect((await service.call("GET", "/health/ready")).status).toBe(503)
  expect((await service.call("GET", "/health/live")).status).toBe(200)
  await waitUntil(() => service.lines.some(({ message }) => String(message).includes("was deleted or replaced")))
  const line = service.lines.find(({ message }) => String(message).includes("was deleted or replaced"))
  expect(line.logLevel ?? line.level).toMatch(/error/i)
  writeFileSync(until, "")
  await waitUntil(() => processesWith(`${body.id}.`).length === 0)
  expect(await service.stop()).toBe(0)
  expect(existsSync(join(data, "spool", `${body.id}.1.json`))).toBe(true)
})
