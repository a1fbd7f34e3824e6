/** No job reads a secret of the service in an environment, also where no namespace keeps the two apart. */
import { spawn, spawnSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import { chmodSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterEach, describe, expect, it } from "vitest"
import { namespaces } from "../Llm/harness.js"
import { isInstalled, RedisServer } from "../Store/redisServer.js"
import { Receiver, verify } from "./Receiver.js"
import { type Json, Service, standIn, waitUntil } from "./Service.js"

const canary = `canary${randomUUID().replaceAll("-", "")}`
const key = `${canary}-key`
const secret = `whsec_${Buffer.from(canary).toString("base64")}`
const keys = JSON.stringify({ alice: { keys: [key], admin: true } })
const bearer = { authorization: `Bearer ${key}` }

let service: Service
const opened: Array<{ readonly close: () => unknown }> = []
afterEach(async () => {
  await service.dispose()
  for (const each of opened.splice(0)) await each.close()
})

/** What came to a collector, by the header of the exporter. */
const collector = async () => {
  const headers: Array<unknown> = []
  const server = createServer((request, response) => {
    headers.push(request.headers["x-key"])
    request.resume().on("end", () => response.end("{}"))
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  opened.push(server)
  return { headers, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

/** What a job of the resource `look` finds of a text in all environments that it can read. */
const look = async (text: string): Promise<Json> => {
  const { body } = await service.submit(text, {}, { ...bearer, prefer: "wait=60" })
  expect(body).toMatchObject({ status: "succeeded" })
  return JSON.parse(body.output.text)
}

const warnings = () => service.lines.filter(({ logLevel }) => logLevel === "WARN").map(({ message }) => message)

describe("a secret in the environment of the service", () => {
  it.skipIf(!isInstalled)("is read by no job, and does its work", async () => {
    const redis = await new RedisServer(["--requirepass", `${canary}-password`]).start()
    opened.push({ close: () => redis.dispose() })
    const receiver = await new Receiver().start()
    opened.push({ close: () => receiver.stop() })
    const { headers, url } = await collector()
    service = new Service()
    await service.start({
      OFFLOAD_CONTAINMENT: "group",
      OFFLOAD_API_KEYS: keys,
      REDIS_URL: redis.url.replace("//", `//:${canary}-password@`),
      OFFLOAD_WEBHOOK_SECRET: secret,
      OFFLOAD_WEBHOOK_ALLOW_HOSTS: "localhost",
      OTEL_EXPORTER_OTLP_ENDPOINT: url,
      OTEL_EXPORTER_OTLP_HEADERS: `x-key=${canary}-header`,
      OTEL_METRIC_EXPORT_INTERVAL: "200",
      OTHER_TOKEN: `${canary}-other`,
      OFFLOAD_RESOURCES: JSON.stringify({
        look: { adapter: "command", command: standIn("environments") },
        other: { adapter: "command", command: standIn("environments"), env: ["OTHER_TOKEN"] },
      }),
    })

    for (const text of [canary, Buffer.from(canary).toString("base64")]) {
      const seen = await look(text)
      // A command that has given up root's privileges cannot look at a service that has them at all.
      if (process.getuid?.() !== 0) expect(seen.read).toContain(service.pid)
      expect(seen.found).toEqual([])
      expect(seen.own).not.toContain("OTHER_TOKEN")
    }
    // What a resource gives to its command is still there to be given, to that command alone.
    const { body } = await service.submit(canary, { resource: "other" }, { ...bearer, prefer: "wait=60" })
    const given: Json = JSON.parse(body.output.text)
    expect(given.own).toContain("OTHER_TOKEN")
    expect(given.found.length).toBeGreaterThan(0)
    expect(given.found.map((each: string) => Number(each.split(" ")[0]))).not.toContain(service.pid)

    expect((await service.call("GET", "/jobs")).status).toBe(401)
    const told = await service.submit("x", { webhook: { url: receiver.url() } }, bearer)
    await waitUntil(() => receiver.received.length === 1)
    const [message] = receiver.received
    expect(message === undefined ? null : verify(secret, message).data.id).toBe(told.body.id)
    await waitUntil(() => headers.includes(`${canary}-header`))
    expect(warnings().filter((message) => message.includes("secret"))).toEqual([])
    expect(service.log).not.toContain(canary)
  })

  const noProc = ["--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
  const canHideProc = spawnSync("unshare", [...noProc, "true"]).status === 0

  it.skipIf(!canHideProc)("that cannot be hidden is told, with what to do", async () => {
    service = new Service()
    const child = spawn(
      "unshare",
      [...noProc, process.execPath, fileURLToPath(new URL("../../dist/bundle/main.js", import.meta.url))],
      {
        cwd: service.data,
        env: { PATH: process.env.PATH, PORT: "0", OFFLOAD_LLM: "demo", OFFLOAD_API_KEYS: keys, OFFLOAD_LOG: "json" },
      },
    )
    opened.push({ close: () => child.kill("SIGKILL") })
    let log = ""
    child.stdout.on("data", (chunk) => {
      log += chunk
    })
    await waitUntil(() => log.includes("listening on"))
    const line = log.split("\n").find((each) => each.includes("_FILE")) ?? "{}"
    expect(JSON.parse(line)).toMatchObject({
      logLevel: "WARN",
      annotations: { variables: "OFFLOAD_API_KEYS", reason: expect.stringContaining("/proc") },
    })
    expect(log).not.toContain(canary)
  })
})

describe("a secret in a file", () => {
  it("does its work, and is told where every user may read it", async () => {
    service = new Service({
      OFFLOAD_CONTAINMENT: "group",
      OFFLOAD_RESOURCES: JSON.stringify({ look: { adapter: "command", command: standIn("environments") } }),
    })
    const write = (name: string, text: string, mode: number) => {
      const path = join(service.data, name)
      writeFileSync(path, `${text}\n`)
      chmodSync(path, mode)
      return path
    }
    const { headers, url } = await collector()
    const receiver = await new Receiver().start()
    opened.push({ close: () => receiver.stop() })
    const open = write("open", secret, 0o644)
    await service.start({
      OFFLOAD_API_KEYS_FILE: write("keys", keys, 0o600),
      OFFLOAD_WEBHOOK_SECRET_FILE: open,
      OFFLOAD_WEBHOOK_ALLOW_HOSTS: "localhost",
      OTEL_EXPORTER_OTLP_ENDPOINT: url,
      OTEL_EXPORTER_OTLP_HEADERS_FILE: write("headers", `x-key=${canary}-header`, 0o600),
      OTEL_METRIC_EXPORT_INTERVAL: "200",
    })
    expect((await look(canary)).found).toEqual([])
    await service.submit("x", { webhook: { url: receiver.url() } }, bearer)
    await waitUntil(() => receiver.received.length === 1 && headers.includes(`${canary}-header`))
    const exposed = service.lines.filter(({ message }) => message.includes("may read a file of secrets"))
    expect(exposed.map(({ annotations }) => annotations.file)).toEqual([open])
    expect(service.log).not.toContain(canary)
  })

  it.skipIf(!namespaces)("is found empty by a command in a namespace, and the service still has it", async () => {
    service = new Service({ OFFLOAD_CONTAINMENT: "namespace" })
    const file = join(service.data, "keys")
    writeFileSync(file, keys, { mode: 0o600 })
    await service.start({
      OFFLOAD_API_KEYS_FILE: file,
      OFFLOAD_RESOURCES: JSON.stringify({ read: { adapter: "command", command: ["/bin/sh", "-c", `wc -c <${file}`] } }),
    })
    const { body } = await service.submit("x", {}, { ...bearer, prefer: "wait=60" })
    expect(body.output.text.trim()).toBe("0")
    expect((await service.call("GET", "/jobs", undefined, bearer)).status).toBe(200)
  })
})
