import { Either } from "effect"
import { describe, expect, it } from "vitest"
import { read } from "../../src/Redis/Url.js"
import { parse } from "../../src/Redis.js"

const found = (url: string) => Either.getOrThrowWith(read(url), (reason) => new Error(reason))

describe("the URL of a Redis", () => {
  it.each([
    ["redis://localhost", { kind: "server", secure: false, hosts: [{ host: "localhost", port: 6379 }], db: 0 }],
    ["redis://localhost:6380/2", { hosts: [{ host: "localhost", port: 6380 }], db: 2 }],
    ["redis://localhost/", { db: 0 }],
    ["REDISS://u:p%40s%2Fs%25@example.com", { secure: true, username: "u", password: "p@s/s%" }],
    ["redis://:a:b@h", { username: "", password: "a:b" }],
    ["redis://us%3Aer:p@h", { username: "us:er", password: "p" }],
    ["redis://[::1]:6380", { hosts: [{ host: "::1", port: 6380 }] }],
    ["rediss://u:p@[2001:db8::1]/1", { hosts: [{ host: "2001:db8::1", port: 6379 }], db: 1 }],
    [
      "redis+cluster://a:7000,[::1]:7001,b",
      {
        kind: "cluster",
        hosts: [
          { host: "a", port: 7000 },
          { host: "::1", port: 7001 },
          { host: "b", port: 6379 },
        ],
      },
    ],
    [
      "rediss+sentinel://user:pass@a,b:1/my%20master",
      {
        kind: "sentinel",
        secure: true,
        master: "my master",
        hosts: [
          { host: "a", port: 26_379 },
          { host: "b", port: 1 },
        ],
      },
    ],
  ])("%s", (url, place) => {
    expect(found(url)).toMatchObject(place)
  })

  it.each([
    "",
    "localhost:6379",
    "http://localhost",
    "redis://",
    "redis:///0",
    "redis://localhost/x",
    "redis://localhost/0/1",
    "redis://localhost/-1",
    "redis://localhost:99999",
    "redis://localhost:port",
    "redis://a,b",
    "redis://::1",
    "redis+cluster://a,,b",
    "redis+cluster://a/1",
    "redis+sentinel://a",
    "redis+sentinel://a/",
    "redis+sentinel://a/name/1",
    "redis://h?family=6",
    "redis://h#0",
    "redis://hunter2:hunter2%zz@h",
    "redis://u:hunter2%zz@h",
    "redis://u:hunt@er2@h",
    "redis://u:hunter2/@h",
    "redis://u:hunter2?@h",
    "redis://u:hunter2#@h",
    "redis://hunter2:6/456@h",
    "redis+sentinel://hunter2:26/456@h/name",
    "redis+sentinel://hunter2:26/456@h",
  ])("not %s, and says why without a word of it", (url) => {
    const refused = parse(url)
    const reason = Either.isLeft(refused) ? refused.left.message : ""
    expect(reason).toMatch(/^REDIS_URL is not understood: /)
    expect(reason).not.toMatch(/hunt|er2|456/)
  })

  it("is known to the log by its hosts alone", () => {
    const name = (url: string) => Either.getOrThrow(parse(url)).name
    expect(name("rediss://user:p%40ss@example.com")).toBe("example.com:6379")
    expect(name("redis://[::1]/3")).toBe("[::1]:6379")
    expect(name("rediss+sentinel://user:pass@a,b/mymaster")).toBe("sentinel a:26379,b:26379")
    expect(name("redis+cluster://user:pass@a:7000,b:7001")).toBe("cluster a:7000,b:7001")
  })
})
