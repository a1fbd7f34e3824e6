/** What the processes beside a command hold open: those that make its sandbox, and the watchdog of a fleet. */
import { rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { waitUntil } from "../e2e/Service.js"
import { hasRedis, RedisServer } from "../Store/redisServer.js"
import { commandOf, descendantsOf, descriptorsOf } from "./machine.js"
import { as, missing, modeNames, modes, serviceIn } from "./modes.js"

const opened = join(tmpdir(), `offload-opened-${process.pid}`)

/** Leaves the service descriptors of a file, without the mark that closes them, as a careless parent does. */
const careless = [
  "perl",
  "-e",
  "use POSIX (); open(my $file, '<', shift) or die; POSIX::dup2(fileno($file), $_) for 9, 200, 251; exec @ARGV",
  opened,
]

describe.each(modeNames)("in the mode %s", (name) => {
  const mode = modes[name]
  const reason = missing(mode)
  const redis = new RedisServer()
  beforeAll(async () => {
    writeFileSync(opened, "")
    if (hasRedis) await redis.start()
  })
  afterAll(async () => {
    await redis.dispose()
    rmSync(opened, { force: true })
  })
  if (reason !== null) {
    it.skip(`nothing can be tried here: ${reason}`)
    return
  }

  it.each([
    ["the embedded store", false],
    ["Redis and a watchdog", true],
  ])("no process of a service with %s holds what the service has open", async (_, isFleet) => {
    if (isFleet && !hasRedis) return
    const env: Record<string, string> = isFleet
      ? { REDIS_URL: redis.url, OFFLOAD_REDIS_PREFIX: `{${name.replaceAll(/\W/g, "")}}:` }
      : {}
    const service = serviceIn(mode, { resources: { llm: {} }, env, wrapper: careless })
    try {
      await service.start()
      const { body } = await service.submit("echo $$; sleep 60", {}, as("mallory"))
      await waitUntil(async () => {
        const job = (await service.call("GET", `/jobs/${body.id}`, undefined, as("mallory"))).body
        return job.output?.text !== undefined && job.output.text !== ""
      })
      expect([...descriptorsOf(service.pid).values()]).toContain(opened)
      const found = descendantsOf(service.pid)
      expect(found.length).toBeGreaterThan(2)
      if (isFleet) expect(found.map(commandOf).join("\n")).toContain("watchdog")
      const held = found.flatMap((pid) =>
        [...descriptorsOf(pid)]
          .filter(([, to]) => to === opened || to.startsWith(service.data))
          .map(([fd, to]) => `${commandOf(pid).slice(0, 60)}: ${fd} ${to}`),
      )
      expect(held).toEqual([])
    } finally {
      await service.dispose()
    }
  })
})
