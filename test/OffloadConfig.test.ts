import { createHash } from "node:crypto"
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ConfigProvider, Effect, Either, Layer, Redacted } from "effect"
import { afterAll, describe, expect, it } from "vitest"
import { isWorldReadable, secretFiles } from "../src/OffloadConfig/Secret.js"
import { OffloadConfig, secrets } from "../src/OffloadConfig.js"

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
    ['{"a":{"models":[]}}', /a.*models/],
    ['{"a":{"model":"large","models":["small"]}}', /a.*model.*models/],
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
    const servers = ["9.9.9.9", "9.9.9.9:5353", "2001:db8::1", "[::1]:53"]
    expect(Either.getOrThrow(read({ OFFLOAD_DNS_SERVERS: servers.join(", ") })).dnsServers).toEqual(servers)
    for (const wrong of ["dns.test", "9.9.9.9:0", "9.9.9.9:99999", "[9.9.9", "::1:x", "fe80::1%lo"]) {
      expect(Either.isLeft(read({ OFFLOAD_DNS_SERVERS: wrong }))).toBe(true)
    }
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
    expect(webhookPermits).toBe(8)
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

/** Why a configuration is refused. */
const refusal = (environment: Record<string, string>) => Either.getOrThrow(Either.flip(read(environment)))

describe("bounds of what a job may ask for", () => {
  it("are by default those of the API", () => {
    expect(Either.getOrThrow(read({}))).toMatchObject({ maxTimeout: 86_400_000, maxAttemptsLimit: 100 })
  })

  it.each([
    [{ OFFLOAD_TIMEOUT_SECONDS: "61" }, /OFFLOAD_TIMEOUT_SECONDS.*61.*allows 60/],
    [{}, /OFFLOAD_TIMEOUT_SECONDS.*600.*allows 60/],
    [{ OFFLOAD_TIMEOUT_SECONDS: "60", OFFLOAD_MAX_ATTEMPTS: "6" }, /OFFLOAD_MAX_ATTEMPTS.*6.*allows 5/],
    [
      { OFFLOAD_TIMEOUT_SECONDS: "60", OFFLOAD_RESOURCES: '{"slow":{"timeoutSeconds":61}}' },
      /OFFLOAD_RESOURCES.*slow.*allows 60/,
    ],
  ])("refuse a default above them: %j", (environment, reason) => {
    const bounds = { OFFLOAD_MAX_TIMEOUT_SECONDS: "60", OFFLOAD_MAX_ATTEMPTS_LIMIT: "5" }
    expect(refusal({ ...bounds, ...environment })).toMatch(reason)
  })
})

describe("the limits of one caller", () => {
  const keys = { OFFLOAD_API_KEYS: '{"alice":{"keys":["0123456789abcdef"]}}' }
  const limits = (environment: Record<string, string>) => {
    const { maxQueuedPerCaller, maxRunningPerCaller, maxStreamsPerCaller, maxSubmissions } = Either.getOrThrow(
      read(environment),
    )
    return [maxQueuedPerCaller, maxSubmissions, maxStreamsPerCaller, maxRunningPerCaller]
  }

  it("are a share of the whole where there are keys", () => {
    expect(limits(keys)).toEqual([50_000, 10_000, 500, null])
    expect(limits({ ...keys, OFFLOAD_MAX_QUEUED: "1000", OFFLOAD_MAX_STREAMS: "31" })).toEqual([500, 600, 16, null])
  })

  it("leave a small whole to a caller that is alone", () => {
    expect(limits({ ...keys, OFFLOAD_MAX_QUEUED: "1", OFFLOAD_MAX_STREAMS: "2" })).toEqual([100, 600, 10, null])
  })

  it("are none without keys, and where the settings say none", () => {
    expect(limits({})).toEqual([null, null, null, null])
    const none = {
      OFFLOAD_MAX_QUEUED_PER_CALLER: "none",
      OFFLOAD_MAX_SUBMISSIONS_PER_MINUTE: "none",
      OFFLOAD_MAX_STREAMS_PER_CALLER: "none",
      OFFLOAD_MAX_RUNNING_PER_CALLER: "none",
    }
    expect(limits({ ...keys, ...none })).toEqual([null, null, null, null])
  })

  it("of deliveries are half of their permits; of a caller only where there are keys", () => {
    const ofDeliveries = (environment: Record<string, string>) => {
      const { webhookPermitsPerCaller, webhookPermitsPerHost } = Either.getOrThrow(read(environment))
      return [webhookPermitsPerCaller, webhookPermitsPerHost]
    }
    expect(ofDeliveries({})).toEqual([null, 4])
    expect(ofDeliveries(keys)).toEqual([4, 4])
    expect(ofDeliveries({ ...keys, OFFLOAD_WEBHOOK_PERMITS: "1" })).toEqual([1, 1])
    expect(ofDeliveries({ OFFLOAD_WEBHOOK_PERMITS_PER_HOST: "none" })).toEqual([null, null])
  })
})

const folder = mkdtempSync(join(tmpdir(), "offload-secrets-"))
afterAll(() => rmSync(folder, { recursive: true }))

const file = (name: string, text: string, mode = 0o600) => {
  const path = join(folder, name)
  writeFileSync(path, text)
  chmodSync(path, mode)
  return path
}

describe("keys", () => {
  const key = "alice-key-0123456789"
  const digest = `sha256:${createHash("sha256").update(key).digest("hex")}`

  it.each([
    ["", /OFFLOAD_API_KEYS.*empty/],
    [" \n", /OFFLOAD_API_KEYS.*empty/],
    ["{}", /OFFLOAD_API_KEYS.*names no caller/],
    [file("none.json", "{}"), /OFFLOAD_API_KEYS.*names no caller/],
    [file("blank.json", "\n"), /OFFLOAD_API_KEYS.*not JSON/],
  ])("that name nobody are refused, and do not open the service: %j", (text, reason) => {
    expect(refusal({ OFFLOAD_API_KEYS: text })).toMatch(reason)
  })

  it.each([
    ["of two callers", { alice: { keys: [key] }, bob: { keys: ["bob-key-0123456789ab", key] } }, /'alice' and 'bob'/],
    ["of two callers, once as its digest", { alice: { keys: [key] }, bob: { keys: [digest] } }, /'alice' and 'bob'/],
    ["twice of one", { alice: { keys: [key, key] } }, /'alice'.*twice/],
    [
      "of one, also as its digest in capitals",
      { alice: { keys: [key, digest.replace(/[a-f]/g, (c) => c.toUpperCase())] } },
      /'alice'.*twice/,
    ],
  ])("that are not one caller's, once, are refused: %s", (_, callers, reason) => {
    const error = refusal({ OFFLOAD_API_KEYS: JSON.stringify(callers) })
    expect(error).toMatch(reason)
    expect(error).not.toContain(key)
    expect(error).not.toContain(digest)
  })
})

describe("a secret in a file", () => {
  const values = {
    OFFLOAD_API_KEYS: '{"alice":{"keys":["0123456789abcdef"]}}',
    REDIS_URL: "redis://:password@localhost:6379",
    OFFLOAD_WEBHOOK_SECRET: `whsec_${Buffer.alloc(24, 7).toString("base64")}`,
  }

  it("is that of each setting that can hold one", () => {
    expect(secrets).toEqual(Object.keys(values))
  })

  it.each(Object.entries(values))("is read without its trailing newline: %s_FILE", (name, value) => {
    const inFile = Either.getOrThrow(read({ [`${name}_FILE`]: file(name, `${value}\n`) }))
    const inEnvironment = Either.getOrThrow(read({ [name]: value }))
    expect({ ...inFile, keysFile: null, secretFiles: [] }).toEqual(inEnvironment)
    expect(Redacted.value(inFile.redisUrl)).toBe(Redacted.value(inEnvironment.redisUrl))
    expect(inFile.webhookSecrets.map(Redacted.value)).toEqual(inEnvironment.webhookSecrets.map(Redacted.value))
  })

  it.each(Object.entries(values))("is refused beside the setting itself: %s", (name, value) => {
    expect(refusal({ [name]: value, [`${name}_FILE`]: file(name, value) })).toMatch(
      new RegExp(`${name}_FILE.*${name} is set too`),
    )
  })

  it.each(Object.keys(values))("is refused where the file cannot be read, or is empty: %s_FILE", (name) => {
    expect(refusal({ [`${name}_FILE`]: "/no/such/secret" })).toMatch(/_FILE.*\/no\/such\/secret.*ENOENT/)
    expect(refusal({ [`${name}_FILE`]: folder })).toMatch(/EISDIR/)
    expect(refusal({ [`${name}_FILE`]: file("empty", "\n") })).toMatch(/_FILE.*empty/)
  })

  it.each(["REDIS_URL", "OFFLOAD_WEBHOOK_SECRET"])(
    "that is not valid is named by its setting, and not repeated: %s_FILE",
    (name) => {
      const error = refusal({ [`${name}_FILE`]: file("bad", "hunter2") })
      expect(error).toContain(`${name}_FILE`)
      expect(error).not.toContain("hunter2")
    },
  )

  it("that every user may read is told", () => {
    const provider = ConfigProvider.fromMap(
      new Map([
        ["REDIS_URL_FILE", file("open", "x", 0o644)],
        ["OFFLOAD_WEBHOOK_SECRET_FILE", file("closed", "x", 0o600)],
      ]),
    )
    expect(Effect.runSync(Effect.withConfigProvider(secretFiles(secrets), provider)).filter(isWorldReadable)).toEqual([
      join(folder, "open"),
    ])
  })
})
