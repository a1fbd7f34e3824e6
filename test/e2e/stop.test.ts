/** What an impatient person gets who stops the service: at a terminal, and by signals. */
import { spawnSync } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { type Json, processesWith, Service, standIn, waitUntil } from "./Service.js"

const hasTerminal = spawnSync("script", ["--version"]).status === 0
if (!hasTerminal) console.info("skipped: no `script` of util-linux on this machine, which makes a terminal")

/** Runs its arguments at a terminal, of which its own input and output are the other end. */
const atTerminal = ["/bin/sh", "-c", `exec script -qefc "exec '$0' '$1'" /dev/null`]

/** How long signals must be apart, so that they are not taken for one; and how Ctrl-C comes to a terminal. */
const apartMillis = 1100
const ctrlC = "\x03"

let service: Service
afterEach(() => service.dispose())

const log = () => join(service.data, "signals")
const until = () => join(service.data, "go")

const start = async (containment: string, wrapper: ReadonlyArray<string>, stubborn = false) => {
  service = new Service(
    {
      OFFLOAD_LLM: "command",
      OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("signals")),
      OFFLOAD_CONTAINMENT: containment,
      OFFLOAD_DRAIN_SECONDS: "600",
      OFFLOAD_KILL_GRACE_SECONDS: "60",
      OFFLOAD_LOG: "json",
    },
    wrapper,
  )
  await service.start()
  writeFileSync(log(), "")
  const { body } = await service.submit(JSON.stringify({ log: log(), until: until(), stubborn }), { maxAttempts: 1 })
  await hasBegun(body.id)
  return body.id
}

const hasBegun = (id: string) =>
  waitUntil(async () => (await service.call("GET", `/jobs/${id}`)).body.output?.text === "begun")

const says = (text: RegExp) =>
  waitUntil(
    () => text.test(service.log),
    () => `it does not say ${text}:\n${service.log}`,
  )

const apart = () => new Promise((resolve) => setTimeout(resolve, apartMillis))

/** What became of its attempts once it has run to its end in a later run of the service. */
const outcomesAfter = async (id: string): Promise<ReadonlyArray<string>> => {
  await service.start()
  writeFileSync(until(), "")
  return (await service.ended(id)).attempts.map(({ outcome }: Json) => outcome)
}

describe.each(["auto", "group"])("with containment %s", (containment) => {
  it.skipIf(!hasTerminal)("Ctrl-C says what it waits for, and a second one interrupts the attempts", async () => {
    const id = await start(containment, atTerminal)
    const exit = service.exit()
    service.type(ctrlC)
    await says(/Ctrl-C: the service stops\. A second Ctrl-C interrupts .*, a third ends/)
    await says(/draining: waits up to 600 s for 1 running attempt/)
    await apart()
    // The terminal has told the service alone.
    expect(readFileSync(log(), "utf8")).toBe("")
    expect(service.log).not.toContain("interrupting")
    service.type(ctrlC)
    await says(/interrupting 1 running attempt: the processes have 60 s to end/)
    expect(await exit).toBe(0)
    expect(readFileSync(log(), "utf8")).toBe("SIGTERM\n")
    expect(await outcomesAfter(id)).toEqual(["interrupted", "succeeded"])
  })

  it.each(["SIGINT", "SIGTERM"] as const)(
    "a third %s ends at once, leaves nothing behind and costs no attempt",
    async (signal) => {
      const id = await start(containment, [], true)
      const exit = service.exit()
      service.signal("SIGTERM")
      await says(/draining/)
      await apart()
      service.signal("SIGINT")
      await says(/interrupting/)
      await apart()
      service.signal(signal)
      expect(await exit).toBe(signal === "SIGINT" ? 130 : 143)
      await waitUntil(() => processesWith(`${id}.`).length === 0)
      expect(await outcomesAfter(id)).toEqual(["interrupted", "succeeded"])
    },
  )
})
