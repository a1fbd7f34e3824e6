/** The service on each kind of Redis that a URL can name: Cluster, sentinels, TLS, a user of its own. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { type AddressInfo, createServer, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Redis } from "ioredis"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { freePort } from "../freePort.js"
import { isInstalled } from "../Store/redisServer.js"
import { Service, standIn, waitUntil } from "./Service.js"

const hasOpenssl = spawnSync("openssl", ["version"]).status === 0
if (isInstalled && !hasOpenssl) console.info("no openssl on this machine: the test of TLS cannot run")

describe.skipIf(!isInstalled)("the service on Redis", () => {
  let folder: string
  let servers: Array<ChildProcess>
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "offload-kinds-"))
    servers = []
  })
  afterEach(async () => {
    await Promise.all(
      servers.map((server) => {
        if (server.exitCode !== null) return undefined
        const gone = new Promise((resolve) => server.once("exit", resolve))
        server.kill("SIGKILL")
        return gone
      }),
    )
    rmSync(folder, { recursive: true, force: true })
  })

  /** A server of its own folder, with options or a file of them. */
  const start = async (...args: ReadonlyArray<string>): Promise<void> => {
    const dir = join(folder, String(servers.length))
    mkdirSync(dir)
    const child = spawn("redis-server", args, { cwd: dir, stdio: ["ignore", "pipe", "inherit"] })
    servers.push(child)
    let log = ""
    child.stdout.on("data", (chunk) => {
      log += chunk
    })
    await waitUntil(
      () => /Ready to accept connections|Sentinel ID is/.test(log),
      () => `it does not start:\n${log}`,
    )
  }
  const options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]

  /** Two processes run a job of each other. */
  const works = async (url: string, env: Record<string, string> = {}) => {
    const node = () =>
      new Service({
        OFFLOAD_LLM: "command",
        OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
        REDIS_URL: url,
        ...env,
      })
    const nodes = [node(), node()] as const
    try {
      await Promise.all(nodes.map((each) => each.start()))
      const [one, two] = nodes
      const work = JSON.stringify({ text: "line", chunks: 5, millis: 500 })
      const ids = await Promise.all(nodes.map(async (each) => (await each.submit(work)).body.id))
      for (const id of ids) {
        expect((await one.ended(id, 60)).output.text).toBe([0, 1, 2, 3, 4].map((n) => `line ${n}\n`).join(""))
        expect((await two.call("GET", `/jobs/${id}/events`)).body).toContain("event: done")
      }
      expect((await two.call("GET", "/jobs")).body.jobs).toHaveLength(2)
      expect(one.log).not.toContain("secret")
    } finally {
      await Promise.all(nodes.map((each) => each.dispose()))
    }
  }

  it("Cluster, of three nodes", async () => {
    const ports = [await freePort(), await freePort(), await freePort()]
    for (const port of ports) {
      await start(
        "--port",
        String(port),
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        String(await freePort()),
        ...options,
      )
    }
    const addresses = ports.map((port) => `127.0.0.1:${port}`)
    const made = spawnSync("redis-cli", ["--cluster", "create", ...addresses, "--cluster-yes"], { encoding: "utf8" })
    expect(made.stdout).toContain("All 16384 slots covered")
    const clients = ports.map((port) => new Redis(port))
    try {
      for (const client of clients) {
        await waitUntil(async () => (await client.cluster("INFO")).includes("cluster_state:ok"), undefined, 60)
      }
    } finally {
      for (const client of clients) client.disconnect()
    }
    await works(`redis+cluster://${addresses.slice(0, 2).join(",")}`)
  })

  it("behind a sentinel, beside one that is silent", async () => {
    const [port, sentinel] = [await freePort(), await freePort()]
    await start("--port", String(port), ...options)
    const file = join(folder, "sentinel.conf")
    writeFileSync(file, `port ${sentinel}\nbind 127.0.0.1\nsentinel monitor offload 127.0.0.1 ${port} 1\n`)
    await start(file, "--sentinel")
    const sockets = new Set<Socket>()
    const silent = createServer((socket) => sockets.add(socket.on("error", () => {}))).listen(0, "127.0.0.1")
    try {
      await once(silent, "listening")
      const { port: first } = silent.address() as AddressInfo
      await works(`redis+sentinel://127.0.0.1:${first},127.0.0.1:${sentinel}/offload`)
      expect(sockets.size).toBeGreaterThan(0)
    } finally {
      for (const socket of sockets) socket.destroy()
      silent.close()
    }
  })

  it("with a user of its own, and no other", async () => {
    const port = await freePort()
    const file = join(folder, "users.acl")
    writeFileSync(file, "user app on >secret ~* &* +@all\nuser default off\n")
    await start("--port", String(port), ...options, "--aclfile", file)
    await works(`redis://app:secret@127.0.0.1:${port}`)
  })

  it("with a user that may ask for neither its version nor its settings", async () => {
    const port = await freePort()
    const file = join(folder, "users.acl")
    writeFileSync(file, "user app on >secret ~{offload}:* &{offload}:* +@all -@admin -@dangerous\nuser default off\n")
    await start("--port", String(port), ...options, "--aclfile", file)
    await works(`redis://app:secret@127.0.0.1:${port}`)
  })

  it("not with a user that may not do what is needed: the start says what that is", async () => {
    const port = await freePort()
    const file = join(folder, "users.acl")
    writeFileSync(
      file,
      "user app on >secret ~* &* +@all -zadd -bzpopmin -info\nuser other on >secret ~other:* &* +@all\nuser default off\n",
    )
    await start("--port", String(port), ...options, "--aclfile", file)
    const refused = async (user: string) => {
      const stranger = new Service({ REDIS_URL: `redis://${user}:secret@127.0.0.1:${port}` })
      try {
        const error = await stranger.start().then(
          () => "it started",
          (error: unknown) => String(error),
        )
        expect(error).not.toContain("secret")
        return error
      } finally {
        await stranger.dispose()
      }
    }
    expect(await refused("app")).toMatch(/may not do all that is needed: BZPOPMIN, ZADD|needed: ZADD, BZPOPMIN/)
    expect(await refused("other")).toMatch(/NOPERM .* keys/)
  })

  it("not on a database that the server does not have", async () => {
    const port = await freePort()
    await start("--port", String(port), ...options)
    const stranger = new Service({ REDIS_URL: `redis://127.0.0.1:${port}/99` })
    await expect(stranger.start()).rejects.toThrow(/Store\.open: .*DB index is out of range/)
    await stranger.dispose()
    await works(`redis://127.0.0.1:${port}/7`)
  })

  it.skipIf(!hasOpenssl)("over TLS, whose certificate is checked", async () => {
    const [key, certificate] = [join(folder, "key.pem"), join(folder, "certificate.pem")]
    const made = spawnSync("openssl", [
      ...["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"],
      ...["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
    ])
    expect(made.status).toBe(0)
    const port = await freePort()
    await start(
      ...["--port", "0", "--tls-port", String(port), "--tls-auth-clients", "no"],
      ...["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate, ...options],
    )
    await works(`rediss://localhost:${port}`, { NODE_EXTRA_CA_CERTS: certificate })
    const stranger = new Service({ REDIS_URL: `rediss://localhost:${port}` })
    await expect(stranger.start()).rejects.toThrow(/Store\.open: .*certificate/)
    await stranger.dispose()
  })
})
