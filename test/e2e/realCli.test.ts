/**
 * A job through a command line as its makers publish it: Codex, against a provider on loopback. It shows that the
 * adapter reads what Codex prints, where the fixtures only show that it reads what is documented.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, dirname, join } from "node:path"
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { binOf, type Cli, install, installMillis } from "./cli/install.js"
import { Provider } from "./cli/provider.js"
import { processesWith, Service, waitUntil } from "./Service.js"

const codex: Cli = { package: "@openai/codex", version: "0.169.0", command: "codex" }
const key = "not-a-real-key"
const codexHome = mkdtempSync(join(tmpdir(), "offload-codex-"))

const provider = new Provider()
const service = new Service({
  OFFLOAD_LLM: "codex",
  PATH: [binOf(codex), dirname(process.execPath), process.env.PATH].join(delimiter),
  CODEX_HOME: codexHome,
  OPENAI_API_KEY: key,
})

/** No retries of its own, and no calls beside those to the provider: Codex would ask for plugins and send metrics. */
const config = (url: string) => `
model = "scripted"
model_provider = "scripted"

[model_providers.scripted]
name = "Scripted"
base_url = "${url}"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0

[analytics]
enabled = false

[features]
plugins = false
`

let missing: string | undefined

beforeAll(async () => {
  missing = await install(codex)
  if (missing !== undefined) {
    if (process.env.CI) throw new Error(missing)
    console.warn(`Skipped: ${missing}`)
    return
  }
  writeFileSync(join(codexHome, "config.toml"), config(await provider.start()))
  await service.start()
}, installMillis + 60_000)

afterAll(async () => {
  await service.dispose()
  await provider.stop()
  rmSync(codexHome, { recursive: true, force: true })
})

beforeEach(({ skip }) => skip(missing !== undefined, missing))

describe("Codex itself", () => {
  it("answers with exactly what its provider streamed, and tells the tokens that it used", async () => {
    const pieces = ["The sky is blue 🟦,\n", "çà et là", " 日本", ' "quoted" \\ \u2028', "👩‍👩‍👧 done."]
    provider.script = {
      does: "answer",
      pieces,
      usage: { input_tokens: 321, output_tokens: 45, total_tokens: 366 },
    }
    const { body, status } = await service.submit(
      "Why is the sky blue? 🟦",
      { system: "Be brief.", model: "another" },
      { prefer: "wait=60" },
    )
    expect(status).toBe(200)
    expect(body).toMatchObject({
      status: "succeeded",
      attempt: 1,
      output: { text: pieces.join(""), truncated: false, usage: { inputTokens: 321, outputTokens: 45 } },
      error: null,
      attempts: [{ attempt: 1, adapter: "codex", outcome: "succeeded", cause: null }],
    })
    expect(provider.requests).toMatchObject([{ authorization: `Bearer ${key}`, body: { model: "another" } }])
    expect(provider.requests[0]?.body.input.at(-1)).toMatchObject({
      role: "user",
      content: [{ text: "Be brief.\n\nWhy is the sky blue? 🟦" }],
    })
  })

  it.each([
    { status: 429, code: "rate_limit_exceeded", message: "Too fast.", tag: "LlmRateLimited", retryable: true },
    { status: 401, code: "invalid_api_key", message: "Incorrect API key provided.", tag: "LlmAuth", retryable: false },
    { status: 503, code: "server_error", message: "Not now.", tag: "LlmOverloaded", retryable: true },
  ])("fails as $tag where its provider answers $status", async ({ retryable, tag, ...refusal }) => {
    provider.script = { does: "refuse", ...refusal }
    const { body } = await service.submit("Hello.", { maxAttempts: 1 }, { prefer: "wait=60" })
    expect(body).toMatchObject({
      status: "failed",
      error: { tag, retryable },
      attempts: [{ adapter: "codex", outcome: "failed", cause: { tag } }],
    })
    expect(provider.requests).toHaveLength(1)
  })

  it("is cancelled in the middle of an answer, and nothing of it is left", async () => {
    provider.script = { does: "hang", pieces: ["Half an ans"] }
    const { body } = await service.submit("Hello.")
    await waitUntil(() => provider.requests.length === 1 && provider.open === 1)
    expect(processesWith(`${body.id}.1`).length).toBeGreaterThan(0)
    const asked = await service.call("POST", `/jobs/${body.id}/cancel`)
    expect(asked.status).toBe(202)
    const ended = await service.ended(body.id)
    expect(processesWith(`${body.id}.1`)).toEqual([])
    expect(ended).toMatchObject({ status: "cancelled", attempts: [{ adapter: "codex", outcome: "cancelled" }] })
    await waitUntil(
      () => provider.open === 0,
      () => "something still listens to the provider",
    )
  })
})
