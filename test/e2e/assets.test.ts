/** What is the same for everybody: small on the wire, not sent twice, and no burden for the service. */
import { createHash } from "node:crypto"
import { get } from "node:http"
import { connect } from "node:net"
import { brotliDecompressSync, gunzipSync } from "node:zlib"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { memoryOf } from "./memory.js"
import { Service } from "./Service.js"

const service = new Service({ OFFLOAD_API_KEYS: JSON.stringify({ alice: { keys: ["a-key-of-the-tests"] } }) })
beforeAll(() => service.start())
afterAll(() => service.dispose())

interface Raw {
  readonly status: number | undefined
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
  readonly body: Buffer
}

/** As it is on the wire: `fetch` would decode it. */
const raw = (path: string, headers: Record<string, string> = {}): Promise<Raw> =>
  new Promise((resolve, reject) => {
    get(service.url + path, { headers }, (response) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk) => chunks.push(chunk))
      response.on("end", () =>
        resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) }),
      )
    }).on("error", reject)
  })

const paths = ["/openapi.json", "/docs", "/docs/start.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"]

describe.each(paths)("%s", (path) => {
  it("is the same in each coding, and is sent in one that the client takes", async () => {
    const plain = await raw(path)
    expect([plain.status, plain.headers["content-encoding"], plain.headers.vary]).toEqual([
      200,
      undefined,
      "Accept-Encoding",
    ])
    const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex")
    const gzip = await raw(path, { "accept-encoding": "gzip" })
    expect(gzip.headers["content-encoding"]).toBe("gzip")
    expect(digest(gunzipSync(gzip.body))).toBe(digest(plain.body))
    const br = await raw(path, { "accept-encoding": "gzip, deflate, br" })
    expect(br.headers["content-encoding"]).toBe("br")
    expect(digest(brotliDecompressSync(br.body))).toBe(digest(plain.body))
    for (const accepted of ["br;q=0, gzip;q=0.0", "identity", "*;q=0", "deflate"]) {
      expect((await raw(path, { "accept-encoding": accepted })).headers["content-encoding"]).toBeUndefined()
    }
    expect(new Set([plain, gzip, br].map(({ headers }) => headers.etag)).size).toBe(3)
  })

  it("is not sent again to a client that has it", async () => {
    for (const headers of [{}, { "accept-encoding": "gzip" }] as ReadonlyArray<Record<string, string>>) {
      const etag = String((await raw(path, headers)).headers.etag)
      expect(etag).toMatch(/^"[\w-]+"$/)
      for (const known of [etag, `"other", W/${etag}`, "*"]) {
        const again = await raw(path, { ...headers, "if-none-match": known })
        expect([again.status, again.body.length, again.headers.etag]).toEqual([304, 0, etag])
      }
      expect((await raw(path, { ...headers, "if-none-match": '"other"' })).status).toBe(200)
    }
  })
})

it("are asked for without end by a client that reads nothing, and cost nothing", { timeout: 120_000 }, async () => {
  const { port } = new URL(service.url)
  const path = "/docs/swagger-ui-bundle.js"
  await raw(path)
  const before = memoryOf(service.pid)
  const request = `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`
  const sockets = Array.from({ length: 20 }, () => {
    const socket = connect(Number(port), "127.0.0.1").pause()
    socket.on("error", () => {})
    socket.write(request.repeat(5000))
    return socket
  })
  for (let n = 0; n < 50; n++) expect((await service.call("GET", "/health/live")).status).toBe(200)
  expect(memoryOf(service.pid).peak - before.now).toBeLessThan(150)
  for (const socket of sockets) socket.destroy()
})
