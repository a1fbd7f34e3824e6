/** Names, from real files and a real name server. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Either } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { inTurn } from "../../src/Webhook/Connect.js"
import { candidates, parseHosts, parseResolvConf, toAddress } from "../../src/Webhook/Names.js"
import { make } from "../../src/Webhook/Resolve.js"
import { DnsServer } from "./DnsServer.js"

describe("a name is resolved", () => {
  let server: DnsServer
  let folder: string
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "offload-names-"))
    server = await new DnsServer({
      "both.test": { a: ["192.0.2.1", "192.0.2.2"], aaaa: ["2001:db8::1"] },
      "old.test": { a: ["192.0.2.3"] },
      "half.test": { a: ["192.0.2.4"], aaaa: "silent" },
      "slow.test": { a: "silent", aaaa: "silent" },
      "hooks.svc.test": { a: ["10.0.0.1"] },
      "localhost.localhost": { a: ["192.0.2.5"] },
    }).start()
    writeFileSync(join(folder, "hosts"), "127.0.0.9 here.test HERE # not.this\n::1 here.test\n")
    writeFileSync(join(folder, "resolv.conf"), "search svc.test other.test\noptions ndots:2\n")
  })
  afterAll(() => {
    server.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  const lookup = () => make([server.address], { hosts: join(folder, "hosts"), resolvConf: join(folder, "resolv.conf") })
  const resolve = (hostname: string, limitMillis = 60_000, isNamed = false, by = lookup()) =>
    Effect.runPromise(
      Effect.map(Effect.either(by({ hostname, isNamed, limitMillis })), (result) =>
        Either.isLeft(result) ? result.left.code : result.right.map(({ address }) => address),
      ),
    )

  it("to all of its addresses", async () => {
    expect(await resolve("both.test")).toEqual(["2001:db8::1", "192.0.2.1", "192.0.2.2"])
    expect(await resolve("old.test.")).toEqual(["192.0.2.3"])
    expect(await resolve("unknown.test")).toBe("ENOTFOUND")
  })

  it("by the hosts file first, which may change", async () => {
    const by = lookup()
    expect(await resolve("Here.test.", 1000, false, by)).toEqual(["127.0.0.9", "::1"])
    expect(await resolve("here", 1000, false, by)).toEqual(["127.0.0.9"])
    expect(server.asked.filter((name) => name.includes("here"))).toEqual([])
    const file = join(folder, "hosts")
    const before = await readFile(file, "utf8")
    writeFileSync(file, "127.0.0.10 here.test\n")
    expect(await resolve("here.test", 1000, false, by)).toEqual(["127.0.0.10"])
    writeFileSync(file, before)
  })

  it("to this machine where it is localhost, whatever others say", async () => {
    expect(await resolve("localhost")).toEqual(["127.0.0.1", "::1"])
    expect(await resolve("localhost.localhost")).toEqual(["127.0.0.1", "::1"])
  })

  it("as the machine completes it", async () => {
    expect(await resolve("hooks")).toEqual(["10.0.0.1"])
    expect(await resolve("hooks.")).toBe("ENOTFOUND")
  })

  it("by what one family has where the other gets no answer", async () => {
    expect(await resolve("half.test", 1000)).toEqual(["192.0.2.4"])
  })

  it("within its limit, and beside any number of slow ones", async () => {
    const by = lookup()
    const slow = Array.from({ length: 100 }, () => resolve("slow.test.", 20_000, true, by))
    expect(await resolve("old.test.", 20_000, true, by)).toEqual(["192.0.2.3"])
    // The files of the process are read meanwhile, by threads that no name holds.
    expect(await readFile(join(folder, "hosts"), "utf8")).toContain("here.test")
    expect(new Set(await Promise.all(slow))).toEqual(new Set(["ETIMEDOUT"]))
  })

  it("as the system does where the settings list it and name servers do not know it", async () => {
    const unknown = make([server.address], { hosts: "/nonexistent", resolvConf: "/nonexistent" })
    // It is in the hosts file of the system, and not in that of the test.
    const [, , own = "localhost"] = /^(127\S+)\s+((?!localhost)\S+)/m.exec(await readFile("/etc/hosts", "utf8")) ?? []
    expect(await resolve(own, 10_000, true, unknown)).toContain("127.0.0.1")
  })
})

describe("the files of names", () => {
  it("are read as the system reads them", () => {
    expect(parseHosts("# 1.2.3.4 a\n\n 1.2.3.4\ta B # c\nfe80::1%lo0 d\nnonsense e\n::1 a")).toEqual(
      new Map([
        ["a", [toAddress("1.2.3.4"), toAddress("::1")]],
        ["b", [toAddress("1.2.3.4")]],
      ]),
    )
    expect(parseResolvConf("nameserver 1.2.3.4\nsearch a.test. b.test\noptions timeout:1 ndots:5\n; search c")).toEqual(
      {
        search: ["a.test", "b.test"],
        ndots: 5,
      },
    )
    expect(parseResolvConf("")).toEqual({ search: [], ndots: 1 })
  })

  it("complete short names first, and long ones last", () => {
    const completion = { search: ["x.test"], ndots: 2 }
    expect(candidates("a", completion)).toEqual(["a.x.test", "a"])
    expect(candidates("a.b.c", completion)).toEqual(["a.b.c", "a.b.c.x.test"])
    expect(candidates("a.", completion)).toEqual(["a"])
  })

  it("give addresses that are tried in turns of the families", () => {
    const turns = (...addresses: ReadonlyArray<string>) =>
      inTurn(addresses.map(toAddress)).map(({ address }) => address)
    expect(turns("::1", "::2", "::3", "1.1.1.1")).toEqual(["::1", "1.1.1.1", "::2", "::3"])
    expect(turns("1.1.1.1", "::1", "::2")).toEqual(["1.1.1.1", "::1", "::2"])
    expect(turns(...Array.from({ length: 20 }, (_, n) => `1.1.1.${n}`))).toHaveLength(8)
    expect(turns()).toEqual([])
  })
})
