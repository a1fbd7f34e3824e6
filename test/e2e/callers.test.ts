import { createHash } from "node:crypto"
import { createConnection } from "node:net"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { Service, standIn, waitUntil } from "./Service.js"

const keys = {
  alice: "alice-key-0123456789",
  next: "alice-key-9876543210",
  bob: "bob-key-0123456789ab",
  root: "root-key-0123456789",
}

const service = new Service({
  OFFLOAD_LLM: "command",
  OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
  OFFLOAD_API_KEYS: JSON.stringify({
    alice: { keys: [keys.alice, `sha256:${createHash("sha256").update(keys.next).digest("hex")}`] },
    bob: { keys: [keys.bob] },
    root: { keys: [keys.root], admin: true },
  }),
  OFFLOAD_CORS_ORIGINS: "https://page.example",
})
beforeAll(() => service.start())
afterAll(() => service.dispose())

const bearer = (key: string) => ({ authorization: `Bearer ${key}` })
const work = JSON.stringify({ text: "hello" })

describe("a key", () => {
  it.each([
    ["none", {}],
    ["an unknown one", bearer("carol-key-0123456789")],
    ["one of another scheme", { authorization: `Basic ${keys.alice}` }],
    ["an empty one", { authorization: "Bearer " }],
    ["a part of one", bearer(keys.alice.slice(0, -1))],
  ])("that is missing or wrong is answered 401: %s", async (_, headers) => {
    for (const [method, path] of [
      ["POST", "/jobs"],
      ["GET", "/jobs"],
      ["GET", "/resources"],
      ["GET", "/nothing"],
    ] as const) {
      const answer = await service.call(method, path, method === "POST" ? { prompt: work } : undefined, headers)
      expect([answer.status, answer.body.type]).toEqual([401, "/problems/unauthorized"])
      expect(answer.headers.get("www-authenticate")).toMatch(/^Bearer/)
    }
  })

  it("is not needed for what tells nothing of anybody", async () => {
    for (const path of ["/health/live", "/health/ready", "/problems/unauthorized"]) {
      expect((await service.call("GET", path)).status).toBe(200)
    }
  })

  it("sees its caller's jobs alone, and may be replaced while the old one is in use", async () => {
    const { body } = await service.submit(work, {}, { ...bearer(keys.alice), prefer: "wait=60" })
    expect(body.status).toBe("succeeded")
    for (const key of [keys.alice, keys.next]) {
      expect((await service.call("GET", `/jobs/${body.id}`, undefined, bearer(key))).status).toBe(200)
      expect((await service.call("GET", "/jobs", undefined, bearer(key))).body.jobs).toHaveLength(1)
    }
    const unknown = `${body.id.slice(0, -1)}${body.id.endsWith("0") ? "1" : "0"}`
    for (const [method, path] of [
      ["GET", ""],
      ["DELETE", ""],
      ["POST", "/cancel"],
      ["GET", "/events"],
    ] as const) {
      const foreign = await service.call(method, `/jobs/${body.id}${path}`, undefined, bearer(keys.bob))
      const missing = await service.call(method, `/jobs/${unknown}${path}`, undefined, bearer(keys.bob))
      expect(foreign.status).toBe(404)
      expect(JSON.stringify(foreign.body).replaceAll(body.id, "")).toBe(
        JSON.stringify(missing.body).replaceAll(unknown, ""),
      )
    }
    expect((await service.call("GET", "/jobs", undefined, bearer(keys.bob))).body.jobs).toEqual([])
    expect((await service.call("GET", `/jobs/${body.id}`, undefined, bearer(keys.alice))).body.status).toBe("succeeded")
  })

  it("has its own idempotency keys", async () => {
    const send = (key: string) => service.submit(work, {}, { ...bearer(key), "idempotency-key": "same" })
    const [alice, bob] = await Promise.all([send(keys.alice), send(keys.bob)])
    expect(alice.status).toBe(202)
    expect(bob.status).toBe(202)
    expect(alice.body.id).not.toBe(bob.body.id)
    expect((await send(keys.next)).body.id).toBe(alice.body.id)
  })

  it("changes resources only where it is an admin's", async () => {
    const refused = await service.call("PATCH", "/resources/llm", { permits: 3 }, bearer(keys.alice))
    expect([refused.status, refused.body.type]).toEqual([403, "/problems/forbidden"])
    expect((await service.call("PATCH", "/resources/llm", { permits: 3 }, bearer(keys.root))).body.permits).toBe(3)
  })

  it("is in no log, and no answer", () => {
    for (const key of Object.values(keys)) expect(service.log).not.toContain(key)
  })
})

describe("a web page of another origin", () => {
  const preflight = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, idempotency-key",
  }
  it("may call where its origin is allowed", async () => {
    const origin = "https://page.example"
    const asked = await service.call("OPTIONS", "/jobs", undefined, { origin, ...preflight })
    expect(asked.status).toBe(204)
    expect(asked.headers.get("access-control-allow-origin")).toBe(origin)
    expect(asked.headers.get("access-control-allow-headers")).toContain("idempotency-key")
    const answer = await service.call("GET", "/jobs", undefined, { origin, ...bearer(keys.alice) })
    expect(answer.headers.get("access-control-allow-origin")).toBe(origin)
    const problem = await service.call("GET", "/jobs", undefined, { origin })
    expect([problem.status, problem.headers.get("access-control-allow-origin")]).toEqual([401, origin])
  })

  it("may not where it is not", async () => {
    const origin = "https://other.example"
    const asked = await service.call("OPTIONS", "/jobs", undefined, { origin, ...preflight })
    expect([asked.status, asked.headers.get("access-control-allow-origin")]).toEqual([401, null])
    const answer = await service.call("GET", "/jobs", undefined, { origin, ...bearer(keys.alice) })
    expect(answer.headers.get("access-control-allow-origin")).toBe(null)
  })
})

describe("a request", () => {
  /** What a socket is answered that says just this. */
  const raw = async (text: string): Promise<string> => {
    const socket = createConnection(Number(new URL(service.url).port), "127.0.0.1")
    let answer = ""
    socket.on("data", (chunk) => {
      answer += chunk
    })
    socket.write(text)
    await waitUntil(() => answer.includes("\r\n\r\n"))
    socket.destroy()
    return answer
  }

  it("with two Hosts is refused", async () => {
    const answer = await raw("GET /health/live HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
    expect(answer).toMatch(/^HTTP\/1.1 4\d\d/)
    expect(answer).toContain("/problems/")
  })

  it("that is nested too deeply is refused before it is read", async () => {
    const body = `{"prompt":${"[".repeat(100)}${"]".repeat(100)}}`
    const answer = await service.call("POST", "/jobs", body, bearer(keys.alice))
    expect([answer.status, answer.body.type]).toEqual([400, "/problems/invalid-json"])
  })
})
