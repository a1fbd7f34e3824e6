import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type Json, processesWith, Service, standIn, waitUntil } from "./Service.js"

const fixtures = fileURLToPath(new URL("../Llm/fixtures", import.meta.url))

/** Every command line that is known by its name, played by a stand-in. */
const names = ["claude", "codex", "gemini", "opencode", "ollama", "llm", "aichat"]

const resources = Object.fromEntries(
  [...names, "limited"].map((name) => {
    const adapter = name === "limited" ? "claude" : name
    return [name, { adapter, command: standIn("cli", adapter, fixtures), permits: 4, timeoutSeconds: 60 }]
  }),
)

const containments = ["namespace", "group"] as const

const start = (containment: string) =>
  new Service({
    OFFLOAD_RESOURCES: JSON.stringify(resources),
    OFFLOAD_CONTAINMENT: containment === "namespace" ? "auto" : containment,
  })

describe.each(containments)("resources, their attempts in a %s", (containment) => {
  const service = start(containment)
  beforeAll(() => service.start())
  afterAll(() => service.dispose())

  const state = async (name: string): Promise<Json> =>
    (await service.call("GET", "/resources")).body.resources.find((found: Json) => found.name === name)

  it("are all there, the first one for jobs that name none, and an unknown one is refused", async () => {
    const { body } = await service.call("GET", "/resources")
    expect(body.resources.map(({ name, adapter, permits }: Json) => [name, adapter, permits])).toEqual(
      Object.entries(resources).map(([name, { adapter, permits }]) => [name, adapter, permits]),
    )
    const unknown = await service.submit("hello", { resource: "gpt" })
    expect([unknown.status, unknown.body.type, unknown.body.known]).toEqual([
      422,
      "/problems/unknown-resource",
      Object.keys(resources),
    ])
    expect((await service.submit("success", {}, { prefer: "wait=60" })).body).toMatchObject({
      resource: "claude",
      timeoutSeconds: 60,
    })
  })

  it.each(names)("%s answers, and dies with all it started", async (resource) => {
    const submit = async (prompt: string): Promise<Json> =>
      (await service.submit(prompt, { resource, maxAttempts: 1 })).body
    /** How many processes each command is, with all that it starts. */
    const sizes = { hang: 1, stubborn: 2, children: 3, daemon: 2 }
    const [success, killed, ...trees] = await Promise.all([
      submit("success"),
      submit("signal SIGSEGV"),
      ...Object.entries(sizes).map(async ([deed, size]) => ({ ...(await submit(deed)), size })),
    ])
    expect(await service.ended(success.id)).toMatchObject({
      status: "succeeded",
      output: { text: expect.stringMatching(/\S/) },
      attempts: [{ adapter: resource, outcome: "succeeded", ending: null }],
    })
    expect((await service.ended(killed.id)).error).toMatchObject({ tag: "LlmExit" })

    await Promise.all(
      trees.map(async ({ id, size }) => {
        await waitUntil(() => processesWith(`${id}.`).length >= size)
        await service.call("POST", `/jobs/${id}/cancel`)
        const job = await service.ended(id)
        // `cancelled` says that nothing is left: not that something will soon be gone.
        expect(processesWith(`${id}.`)).toEqual([])
        expect(job).toMatchObject({ status: "cancelled", attempts: [{ outcome: "cancelled" }] })
        const [{ ending }] = job.attempts
        expect(["SIGTERM", "SIGTERM SIGKILL"]).toContain(ending.signals.join(" "))
        // How fast it is, is tested where nothing else goes on.
        expect(ending.millis).toBeLessThan(30_000)
      }),
    )
  })

  it("are held when a quota is used up, though the command line exits with 0", async () => {
    const { body } = await service.submit("rejected-as-success 12", { resource: "limited", maxAttempts: 1 })
    await waitUntil(async () => (await state("limited")).heldUntil !== null)
    const held = Date.parse((await state("limited")).heldUntil)
    expect(held - Date.now()).toBeLessThan(12_000)
    // The hold is there as soon as the refusal is read, the job once the refusal is stored.
    let job: Json
    await waitUntil(async () => {
      job = (await service.call("GET", `/jobs/${body.id}`)).body
      return job.status === "queued" && job.attempts.length > 0
    })
    expect(job).toMatchObject({
      error: { tag: "LlmRateLimited" },
      attempts: [{ outcome: "refused", usage: { costUsd: 0.024 } }],
    })
    await service.call("POST", `/jobs/${body.id}/cancel`)
    const next = (await service.submit("success", { resource: "limited" })).body
    expect(Date.parse(next.expectedStartAt)).toBeGreaterThanOrEqual(held)
    const ended = await service.ended(next.id)
    expect(Date.parse(ended.startedAt)).toBeGreaterThanOrEqual(held)
    expect((await state("limited")).heldUntil).toBe(null)
  })
})
