/** A machine on which no job can run for a while: nothing is lost, and the service says so. */
import { mkdirSync, renameSync } from "node:fs"
import { join } from "node:path"
import { afterEach, beforeEach, expect, it } from "vitest"
import { Service, waitUntil } from "./Service.js"

let service: Service
beforeEach(() => {
  service = new Service({ OFFLOAD_LLM: "command", OFFLOAD_LLM_COMMAND: '["/bin/cat"]' })
})
afterEach(() => service.dispose())

const ready = async () => {
  const { body, status } = await service.call("GET", "/health/ready")
  return status === 200 ? "ready" : `${status} ${body.type}`
}

it.each(["namespace", "group"])(
  "without a temporary folder the service is not ready, and a job of one attempt waits: %s",
  async (mode) => {
    const folder = join(service.data, "tmp")
    mkdirSync(folder)
    await service.start({ TMPDIR: folder, OFFLOAD_CONTAINMENT: mode })
    expect(await ready()).toBe("ready")
    renameSync(folder, `${folder}.away`)
    const { body, status } = await service.submit("hello", { maxAttempts: 1 })
    expect(status).toBe(202)
    await waitUntil(async () => (await ready()) === "503 /problems/cannot-run")
    let job = body
    await waitUntil(async () => {
      job = (await service.call("GET", `/jobs/${body.id}`)).body
      return (job.attempts[0]?.outcome ?? null) !== null
    })
    expect(job.attempts[0]).toMatchObject({ outcome: "refused", cause: { tag: "LlmSpawn" } })
    expect(job.attempts[0].cause.detail).toContain(folder)
    renameSync(`${folder}.away`, folder)
    expect(await service.ended(body.id)).toMatchObject({ status: "succeeded", output: { text: "hello" } })
    await waitUntil(async () => (await ready()) === "ready")
  },
)

it("a temporary folder that is not there refuses the start, and is named", async () => {
  await expect(service.start({ TMPDIR: "/no/such/folder" })).rejects.toThrow("/no/such/folder")
})
