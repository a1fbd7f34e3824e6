/** What operators allow jobs to ask for, on each way into the service. */
import { FetchHttpClient } from "@effect/platform"
import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { OffloadClient } from "../../src/Client.js"
import { Service, standIn } from "./Service.js"

const work = standIn("work")
const resources = {
  llm: { adapter: "command", command: work, model: "small", models: ["small", "large"] },
  open: { adapter: "command", command: work },
}
const roomy = { OFFLOAD_MAX_TIMEOUT_SECONDS: "600" }

const service = new Service({
  OFFLOAD_LLM_COMMAND: JSON.stringify(work),
  OFFLOAD_LLM: "command",
  OFFLOAD_TIMEOUT_SECONDS: "30",
  OFFLOAD_MAX_TIMEOUT_SECONDS: "60",
  OFFLOAD_MAX_ATTEMPTS_LIMIT: "5",
  OFFLOAD_RESOURCES: JSON.stringify(resources),
})
beforeAll(() => service.start())
afterAll(() => service.dispose())

const prompt = JSON.stringify({ text: "done" })
const count = async () => (await service.call("GET", "/jobs?limit=100")).body.jobs.length

describe("a job that asks for more than is allowed", () => {
  it.each([
    [{ timeoutSeconds: 60.1 }, "/timeoutSeconds", "at most 60"],
    [{ maxAttempts: 6 }, "/maxAttempts", "at most 5"],
    [{ model: "huge" }, "/model", "one of small, large"],
  ])("is refused by POST /jobs with what is allowed: %j", async (members, pointer, allowed) => {
    const before = await count()
    for (const headers of [{}, { prefer: "wait=1" }]) {
      const { body, status } = await service.submit(prompt, members, headers)
      expect([status, body.type]).toEqual([422, "/problems/submission-not-allowed"])
      expect(body.detail).toContain(allowed)
      expect(body.errors).toEqual([{ pointer, detail: `it may be ${allowed}` }])
    }
    expect(await count()).toBe(before)
  })

  it("is taken up to the bound, and where its resource allows any model", async () => {
    const most = { timeoutSeconds: 60, maxAttempts: 5, model: "large" }
    expect((await service.submit(prompt, most)).status).toBe(202)
    expect((await service.submit(prompt, { resource: "open", model: "huge" })).status).toBe(202)
  })

  it("is refused by POST /jobs/{id}/retry, where it was taken before the bounds were", async () => {
    await service.stop()
    await service.start(roomy)
    const { body } = await service.submit(JSON.stringify({ exit: 1 }), { timeoutSeconds: 600, maxAttempts: 1 })
    expect((await service.ended(body.id)).status).toBe("failed")
    await service.stop()
    await service.start()
    const retried = await service.call("POST", `/jobs/${body.id}/retry`)
    expect([retried.status, retried.body.type]).toEqual([422, "/problems/submission-not-allowed"])
    expect(retried.body.detail).toContain("at most 60")
  })

  it("is refused by POST /v1/responses in the shape of its API", async () => {
    const { body, status } = await service.call("POST", "/v1/responses", { input: prompt, model: "llm/huge" })
    expect(status).toBe(400)
    expect(body.error).toMatchObject({ code: "model_not_found", param: "model", type: "invalid_request_error" })
    expect(body.error.message).toContain("llm/small, llm/large")
    const allowed = await service.call("POST", "/v1/responses", { input: prompt, model: "large", background: true })
    expect(allowed.status).toBe(200)
  })

  it("is a typed problem of the client", async () => {
    const program = OffloadClient.make({ baseUrl: service.url }).pipe(
      Effect.flatMap((client) => client.submit({ prompt, maxAttempts: 6 })),
      Effect.catchTag("ApiProblem", ({ extensions, slug }) => Effect.succeed({ slug, errors: extensions.errors })),
      Effect.provide(FetchHttpClient.layer),
    )
    expect(await Effect.runPromise(program)).toEqual({
      slug: "submission-not-allowed",
      errors: [{ pointer: "/maxAttempts", detail: "it may be at most 5" }],
    })
  })
})
