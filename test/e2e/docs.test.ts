/** The contract to read: `/openapi.json`, `/docs` and the pages of problems, all without a key. */
import { readFileSync } from "node:fs"
import { request } from "node:http"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { openApiDocument } from "../../src/Api/Document.js"
import { problems } from "../../src/Api/Problem.js"
import { version } from "../../src/Api.js"
import { type Json, Service } from "./Service.js"

const service = new Service({ OFFLOAD_API_KEYS: JSON.stringify({ alice: { keys: ["a-key-of-the-tests"] } }) })
beforeAll(() => service.start())
afterAll(() => service.dispose())

const text = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), "utf8")

/** A path as it is, which `fetch` would tidy up. */
const raw = (path: string): Promise<{ readonly status: number | undefined; readonly body: string }> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(service.url)
    const sent = request({ hostname, port, path }, (response) => {
      let body = ""
      response.on("data", (chunk) => {
        body += chunk
      })
      response.on("end", () => resolve({ status: response.statusCode, body }))
    })
    sent.on("error", reject)
    sent.end()
  })

describe("/openapi.json", () => {
  it("is the committed document", async () => {
    const { body, headers, status } = await service.call("GET", "/openapi.json")
    expect(status).toBe(200)
    expect(headers.get("content-type")).toContain("application/json")
    expect(body).toEqual(JSON.parse(text("docs/openapi.json")))
    expect(body).toEqual(JSON.parse(JSON.stringify(openApiDocument())))
  })

  it("has the version of the package", () => {
    expect(version).toBe(JSON.parse(text("package.json")).version)
  })

  it("tells what the service does", () => {
    const document: Json = openApiDocument()
    const submit = document.paths["/jobs"].post
    expect(submit.parameters.map(({ name }: Json) => name)).toEqual(["Idempotency-Key", "Prefer"])
    expect(Object.keys(submit.responses)).toEqual(
      expect.arrayContaining(["200", "202", "400", "401", "413", "415", "421", "422", "429", "500", "503"]),
    )
    expect(Object.keys(submit.responses["202"].headers)).toContain("Location")
    expect(document.paths["/resources/{name}"].patch.responses["403"]).toBeDefined()
    const events = document.paths["/jobs/{id}/events"].get
    expect(events.parameters.map(({ name }: Json) => name)).toEqual(["id", "Last-Event-ID"])
    expect(Object.keys(events.responses["200"].content)).toEqual(["text/event-stream"])
    expect(events.responses["204"].content).toBeUndefined()
    expect(document.security).toEqual([{}, { bearer: [] }])
    expect(document.paths["/health/live"].get).toMatchObject({ security: [] })
  })

  it("has every error as a problem document of its status, and no other", () => {
    const document: Json = openApiDocument()
    for (const operation of Object.values<Json>(document.paths).flatMap((item) => Object.values<Json>(item))) {
      for (const [status, response] of Object.entries<Json>(operation.responses)) {
        if (Number(status) < 400) continue
        expect(Object.keys(response.content)).toEqual(["application/problem+json"])
        const { schema } = response.content["application/problem+json"]
        for (const { $ref } of schema.anyOf ?? [schema]) {
          const { properties } = document.components.schemas[$ref.split("/").at(-1)]
          expect(properties.status.enum).toEqual([Number(status)])
        }
      }
    }
    expect(JSON.stringify(document)).not.toContain("HttpApiDecodeError")
  })
})

describe("/docs", () => {
  it("is a page whose parts all come from the service", async () => {
    const { body, headers, status } = await service.call("GET", "/docs")
    expect(status).toBe(200)
    expect(headers.get("content-security-policy")).toContain("default-src 'self'")
    expect(headers.get("content-security-policy")).not.toMatch(/unsafe|https?:/)
    expect(body).not.toMatch(/https?:\/\//)
    // What the policy would stop: scripts and styles that stand in the page itself.
    expect(body).not.toMatch(/<script>|<style| style=| on[a-z]+=/)
    const parts = [...body.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, part]) => part)
    expect(parts.length).toBeGreaterThan(3)
    for (const part of parts.filter((part) => !part.startsWith("data:"))) {
      expect((await fetch(new URL(part, `${service.url}/docs`))).status).toBe(200)
    }
    const script = await service.call("GET", "/docs/swagger-ui-bundle.js")
    expect(script.headers.get("content-type")).toContain("text/javascript")
    expect(script.body.length).toBeGreaterThan(100_000)
  })

  it("opens no other file, whatever the path says", async () => {
    for (const path of [
      "/docs/package.json",
      "/docs/../package.json",
      "/docs/..%2f..%2fpackage.json",
      "/docs/%2e%2e%2fDocs.js",
      "/docs//etc/passwd",
      "/docs/%2fetc%2fpasswd",
      "/docs/..\\..\\main.js",
      "/docs/swagger-ui.css%00.js",
      "/docs/__proto__",
    ]) {
      const { body, status } = await raw(path)
      // Outside of /docs a key is asked for first.
      expect([400, 401, 404], path).toContain(status)
      expect(body, path).toMatch(/"type":"\/problems\//)
    }
  })
})

describe("the page of a problem", () => {
  it.each(Object.keys(problems))("%s says what it means", async (slug) => {
    const { body, headers, status } = await service.call("GET", `/problems/${slug}`)
    expect(status).toBe(200)
    expect(headers.get("content-type")).toContain("text/html")
    expect(body).toContain(slug)
  })
})
