/** No byte of a connection to Redis is in clear text where its URL says TLS: what goes over each wire is looked at. */
import { readFileSync } from "node:fs"
import { type AddressInfo, connect, createServer, type Server } from "node:net"
import { createServer as createTlsServer, type Server as TlsServer } from "node:tls"
import { afterEach, describe, expect, it } from "vitest"
import { fixture } from "./Receiver.js"
import { Service, waitUntil } from "./Service.js"

/** The first byte of a handshake of TLS. */
const handshake = 0x16

const bulk = (text: string) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`

const portOf = (server: Server | TlsServer) => (server.address() as AddressInfo).port

const listening = (server: Server | TlsServer) =>
  new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()))

/** The commands in what a client has sent. */
const commandsIn = (text: string): ReadonlyArray<string> =>
  text
    .split(/^\*\d+\r\n/m)
    .slice(1)
    .map((each) => [...each.matchAll(/\$\d+\r\n(.*)\r\n/g)].map(([, word]) => word).join(" "))

describe("TLS to Redis", () => {
  const servers: Array<Server | TlsServer> = []
  let service: Service | undefined
  afterEach(async () => {
    await service?.dispose()
    for (const server of servers.splice(0)) server.close()
  })

  /** What stands in for a Redis that speaks TLS, behind a wire that is listened to. */
  const wire = async (answer: (command: string) => string) => {
    const redis = createTlsServer(
      { key: readFileSync(fixture("localhost.key")), cert: readFileSync(fixture("localhost.pem")) },
      (socket) => {
        socket.on("error", () => {})
        socket.on("data", (data) => {
          for (const command of commandsIn(String(data))) socket.write(answer(command.toLowerCase()))
        })
      },
    )
    const heard: Array<Buffer> = []
    const ear = createServer((near) => {
      const far = connect(portOf(redis), "127.0.0.1")
      for (const socket of [near, far]) socket.on("error", () => {})
      near.once("data", (data) => heard.push(data))
      near.pipe(far)
      far.pipe(near)
    })
    servers.push(redis, ear)
    await Promise.all([listening(redis), listening(ear)])
    return { heard, port: portOf(ear) }
  }

  const info = bulk("redis_version:7.0.0\r\nloading:0\r\ncluster_enabled:1\r\n")

  const cases = {
    "rediss://": async () => {
      const server = await wire((command) => (command.startsWith("info") ? info : "+OK\r\n"))
      return { url: `rediss://user:secret@localhost:${server.port}`, wires: [server] }
    },
    "rediss+sentinel://": async () => {
      const master = await wire((command) => (command.startsWith("info") ? info : "+OK\r\n"))
      const sentinel = await wire((command) => {
        if (command.includes("get-master-addr")) return `*2\r\n${bulk("localhost")}${bulk(String(master.port))}`
        return command.startsWith("sentinel") ? "*0\r\n" : "+OK\r\n"
      })
      return { url: `rediss+sentinel://user:secret@localhost:${sentinel.port}/name`, wires: [sentinel, master] }
    },
    "rediss+cluster://": async () => {
      const other = await wire((command) => (command.startsWith("info") ? info : "+OK\r\n"))
      const seed = await wire((command) => {
        if (command === "cluster slots") {
          return `*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n${bulk("localhost")}:${other.port}\r\n${bulk("a".repeat(40))}`
        }
        if (command === "cluster info") return bulk("cluster_state:ok\r\n")
        return command.startsWith("info") ? info : "+OK\r\n"
      })
      return { url: `rediss+cluster://user:secret@localhost:${seed.port}`, wires: [seed, other] }
    },
  }

  it.each(Object.entries(cases))("begins with a handshake on each wire of %s", async (_, make) => {
    const { url, wires } = await make()
    service = new Service({ REDIS_URL: url, NODE_EXTRA_CA_CERTS: fixture("localhost.pem") })
    // These are no stores: the start fails, after all of them were asked.
    const started = service.start().catch((error: unknown) => error)
    await waitUntil(
      () => wires.every(({ heard }) => heard.length > 0),
      () => `not all were asked: ${wires.map(({ heard }) => heard.length)} ${service?.log}`,
    )
    for (const { heard } of wires) {
      for (const first of heard) {
        expect(first[0]).toBe(handshake)
        expect(first.includes("secret")).toBe(false)
      }
    }
    await service.kill()
    await started
  })
})
