/**
 * Two services on one folder, each in a PID namespace of its own as in two containers, where the processes of the one
 * are hidden from the other and process numbers repeat.
 */
import { spawnSync } from "node:child_process"
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, expect, it } from "vitest"
import { type Json, processesWith, Service, standIn, waitUntil } from "./Service.js"

const contained = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
const [unshare = "", ...args] = [...contained, "true"]
const canContain = spawnSync(unshare, args).status === 0
if (!canContain) console.info("skipped: this machine gives no PID namespaces")

const services: Array<Service> = []
afterEach(async () => {
  for (const service of services.splice(0)) await service.dispose()
})

const env = {
  OFFLOAD_LLM: "command",
  OFFLOAD_LLM_COMMAND: JSON.stringify(standIn("work")),
  OFFLOAD_CONTAINMENT: "group",
}

/** Under another number than the first process of a namespace has. */
const numbered = [...contained, "/bin/sh", "-c", `"$0" "$@" & wait $!`]

const make = (data?: string, wrapper = contained): Service => {
  const service = new Service(data === undefined ? env : { ...env, OFFLOAD_DATA: data }, wrapper)
  services.push(service)
  return service
}

/** The service itself, and not what has made its namespace. */
const inside = (service: Service): number => {
  const [pid] = processesWith(service.data).filter((pid) => {
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8")
    return command.startsWith(process.execPath) && command.includes("main.js")
  })
  if (pid === undefined) throw new Error("there is no such process")
  return pid
}

const begin = async (service: Service) => {
  const go = join(service.data, "go")
  const { body } = await service.submit(JSON.stringify({ text: "x", until: go }))
  await waitUntil(async () => (await service.call("GET", `/jobs/${body.id}`)).body.output?.text === "x")
  return { id: body.id, go }
}

it.skipIf(!canContain).each([
  ["another number", numbered],
  ["its number", contained],
])(
  "an owner that is frozen keeps its folder from a process of %s, and goes on when it is woken",
  async (_, wrapper) => {
    const first = await make().start()
    const { go, id } = await begin(first)
    const pid = inside(first)
    process.kill(pid, "SIGSTOP")
    await expect(make(join(first.data, "data"), wrapper).start()).rejects.toThrow(/in use/)
    process.kill(pid, "SIGCONT")
    writeFileSync(go, "")
    expect((await first.ended(id)).attempts.map(({ outcome }: Json) => outcome)).toEqual(["succeeded"])
  },
)

it.skipIf(!canContain)("an owner that was killed leaves its folder free at once", async () => {
  const first = await make().start()
  const { go, id } = await begin(first)
  process.kill(inside(first), "SIGKILL")
  await first.exit()
  const began = performance.now()
  const second = await make(join(first.data, "data")).start()
  writeFileSync(go, "")
  expect((await second.ended(id)).attempts.map(({ outcome }: Json) => outcome)).toEqual(["orphaned", "succeeded"])
  // It does not wait for signs of life, which takes 15 s before the start goes on.
  expect(performance.now() - began).toBeLessThan(15_000)
})

it.skipIf(!canContain)(
  "an owner that was frozen until it was taken for dead tells nothing more, and ends",
  async () => {
    const first = await make().start()
    const { go, id } = await begin(first)
    const store = join(first.data, "data", "store")
    // As on a file system without sockets.
    for (const name of readdirSync(store)) if (name.endsWith(".sock")) rmSync(join(store, name))
    const pid = inside(first)
    process.kill(pid, "SIGSTOP")
    // lmdb keeps a process of the same number out for as long as the first one has the folder.
    await expect(make(join(first.data, "data")).start()).rejects.toThrow(/in use/)
    const second = await make(join(first.data, "data"), numbered).start()
    writeFileSync(go, "")
    const ended = await second.ended(id)
    expect(ended.attempts.map(({ outcome }: Json) => outcome)).toEqual(["orphaned", "succeeded"])
    // Asked while it is frozen, and once it is awake.
    const asked = first.call("GET", `/jobs/${id}`).then(
      ({ status }) => status,
      () => "cut",
    )
    const exit = first.exit()
    process.kill(pid, "SIGCONT")
    expect(await exit).toBe(1)
    expect(await asked).not.toBe(200)
    expect(first.log).toContain("another process has taken the folder")
    await waitUntil(() => processesWith(`${id}.1`).length === 0)
    expect((await second.call("GET", `/jobs/${id}`)).body).toEqual(ended)
  },
)
