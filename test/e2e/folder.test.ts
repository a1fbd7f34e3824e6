/** The data folder is deleted, or moved away, while the service runs. */
import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, beforeEach, expect, it } from "vitest"
import { processesWith, Service, standIn, waitUntil } from "./Service.js"

let service: Service
const makeService = () =>
  new Service({
    OFFLOAD_LLM: "command",
    OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
    OFFLOAD_DRAIN_SECONDS: "1",
  })
beforeEach(() => {
  service = makeService()
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

it("a data folder that was moved away and comes back is used on", async () => {
  await service.start()
  const data = join(service.data, "data")
  renameSync(data, `${data}.moved`)
  expect((await service.submit("x")).status).toBe(503)
  expect((await service.call("GET", "/health/ready")).status).toBe(503)
  renameSync(`${data}.moved`, data)
  const { body, status } = await service.submit(JSON.stringify({ text: "y" }))
  expect(status).toBe(202)
  expect((await service.ended(body.id)).status).toBe("succeeded")
  expect((await service.call("GET", "/health/ready")).status).toBe(200)
})
