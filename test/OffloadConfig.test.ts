import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ConfigProvider, Effect, Either, Layer, Redacted } from "effect"
import { describe, expect, it } from "vitest"
import { OffloadConfig } from "../src/OffloadConfig.js"

const read = (environment: Record<string, string>) =>
  Effect.runSync(
    OffloadConfig.pipe(
      Effect.provide(
        Layer.provide(
          OffloadConfig.layerFromEnv,
          Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment)))),
        ),
      ),
      Effect.mapError(String),
      Effect.either,
    ),
  )

const resources = (text: string, environment: Record<string, string> = {}) =>
  Either.map(read({ ...environment, OFFLOAD_RESOURCES: text }), (config) => config.resources)

describe("the settings", () => {
  it("have their defaults: one resource with two permits", () => {
    expect(Either.getOrThrow(read({}))).toMatchObject({
      port: 3000,
      maxAttempts: 3,
      resources: [{ name: "llm", adapter: "auto", permits: 2, timeoutMillis: 600_000, folder: null, limits: {} }],
    })
  })

  it("name what is wrong, and do not repeat a value, which may be a secret", () => {
    const error = Either.getOrThrow(Either.flip(read({ OFFLOAD_PERMITS: "sk-secret" })))
    expect(error).toContain("OFFLOAD_PERMITS")
    expect(error).toContain("1 to 1000")
    expect(error).not.toContain("sk-secret")
  })
})

describe("several resources", () => {
  const text = JSON.stringify({
    claude: { adapter: "claude", permits: 2, model: "opus", maxCostUsd: 0.5 },
    local: { adapter: "command", command: ["my-llm"], permits: 1, timeoutSeconds: 30, folder: "/srv", env: ["X"] },
  })

  it("start from the other settings, in their order", () => {
    const found = resources(text, { OFFLOAD_TIMEOUT_SECONDS: "60", OFFLOAD_MAX_OUTPUT_BYTES: "2048" })
    expect(Either.getOrThrow(found)).toMatchObject([
      { name: "claude", adapter: "claude", model: "opus", timeoutMillis: 60_000, maxOutputBytes: 2048, env: [] },
      { name: "local", command: ["my-llm"], permits: 1, timeoutMillis: 30_000, folder: "/srv", env: ["X"] },
    ])
  })

  it("may stand in a file", () => {
    const folder = mkdtempSync(join(tmpdir(), "offload-config-"))
    try {
      const file = join(folder, "resources.json")
      writeFileSync(file, text)
      expect(Either.getOrThrow(resources(file)).map(({ name }) => name)).toEqual(["claude", "local"])
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it.each([
    ["{", /JSON/],
    ["{}", /names no resource/],
    ["/no/such/file", /no file that can be read/],
    ['{"a b":{}}', /a b/],
    ['{"a":{"permits":0}}', /a.*permits/],
    ['{"a":{"premits":2}}', /a.*premits/],
    ['{"a":{"adapter":"gpt"}}', /a.*adapter/],
    ['{"a":{"folder":"relative"}}', /a.*folder/],
    ['{"a":{"model":"--help"}}', /a.*model/],
    ['{"a":{"limits":{"openFiles":0}}}', /openFiles/],
  ])("refuse %s", (text, reason) => {
    const error = Either.getOrThrow(Either.flip(resources(text)))
    expect(error).toMatch(/OFFLOAD_RESOURCES/)
    expect(error).toMatch(reason)
  })
})

describe("webhooks", () => {
  const secret = (bytes: number) => `whsec_${Buffer.alloc(bytes, 7).toString("base64")}`

  it("are signed with each secret that is well-formed", () => {
    const both = Either.getOrThrow(read({ OFFLOAD_WEBHOOK_SECRET: ` ${secret(24)}  ${secret(64)} ` })).webhookSecrets
    expect(both.map(Redacted.value)).toEqual([secret(24), secret(64)])
    expect(String(both)).not.toContain("whsec_")
    for (const wrong of [secret(23), secret(65), secret(24).slice("whsec_".length), "whsec_!", `${secret(24)},x`]) {
      const error = Either.getOrThrow(Either.flip(read({ OFFLOAD_WEBHOOK_SECRET: wrong })))
      expect(error).toContain("OFFLOAD_WEBHOOK_SECRET")
      expect(error).not.toContain(wrong)
    }
  })

  it("may go to hosts and ranges that are well-formed", () => {
    const entries = ["localhost", "hook_1.internal", "10.0.0.0/8", "192.168.1.1", "::1", "fd00::/8"]
    expect(Either.getOrThrow(read({ OFFLOAD_WEBHOOK_ALLOW_HOSTS: entries.join(", ") })).webhookAllow).toEqual(entries)
    for (const wrong of [
      "10.0.0.0/33",
      "fd00::/129",
      "10.0.0",
      "1",
      "0x7f.1",
      "*.internal",
      "http://x",
      "a/8",
      "::1/",
    ]) {
      expect(`${wrong} ${Either.isLeft(read({ OFFLOAD_WEBHOOK_ALLOW_HOSTS: wrong }))}`).toBe(`${wrong} true`)
    }
  })

  it("are tried again over hours", () => {
    const { webhookPermits, webhookRetry } = Either.getOrThrow(read({}))
    expect(webhookPermits).toBe(4)
    expect(webhookRetry).toHaveLength(9)
    expect(webhookRetry.slice(0, 3)).toEqual([5000, 300_000, 1_800_000])
    for (const wrong of ["x", "1,,2", "-1", "604801", Array(51).fill("1").join(",")]) {
      expect(Either.isLeft(read({ OFFLOAD_WEBHOOK_RETRY_SECONDS: wrong }))).toBe(true)
    }
  })

  it("have a resource of their own, whose name no other may take", () => {
    expect(Either.getOrThrow(Either.flip(resources('{"webhooks":{}}')))).toContain("webhooks")
  })
})
