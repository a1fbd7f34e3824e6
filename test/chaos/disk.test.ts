/**
 * A disk that is full: nothing is accepted that is not saved, what was accepted goes on, and lands when there is room
 * again, also after a kill -9 in the middle of it.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, expect, it } from "vitest"
import { Service, waitUntil } from "../e2e/Service.js"
import { scale } from "./Chance.js"
import { Ledger } from "./Ledger.js"
import { Lives } from "./Lives.js"

const run = (command: string, ...args: ReadonlyArray<string>) => spawnSync(command, args, { encoding: "utf8" })

let service: Service
let lives: Lives
let disk = ""
const clear = async () => {
  await service?.kill()
  if (disk !== "") run("umount", "--lazy", disk)
  await service?.dispose()
  lives?.dispose()
}
afterEach(clear)

it.for(["goes on", "is killed"])(
  "a full disk: the service %s",
  { timeout: scale(240_000, 1_200_000) },
  async (then, { skip }) => {
    for (let round = 0; round < scale(1, 10); round++) {
      const reason = await fill(then)
      if (reason !== null) return skip(reason)
      await clear()
    }
  },
)

/** Fills one. `null`, or why there is none to fill. */
const fill = async (then: string): Promise<string | null> => {
  lives = new Lives()
  service = new Service(lives.env)
  disk = join(service.data, "disk")
  mkdirSync(disk)
  const mounted = run("mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", disk)
  if (mounted.status !== 0) {
    disk = ""
    return `no small disk can be mounted here: ${mounted.stderr?.trim() || mounted.error}`
  }
  const env = { OFFLOAD_DATA: join(disk, "data") }
  await service.start(env)
  const ledger = new Ledger(service)
  const until = join(service.data, "until")
  await ledger.submit({ text: "running", until })
  const unwanted = (await service.submit(JSON.stringify({ text: "unwanted", until: `${until}.never` }))).body.id
  await waitUntil(() => lives.read().length === 2)

  // Large prompts, until no more fit; and when somebody has taken what was left of the disk, smaller ones too.
  const submitUntilRefused = async (size: number) => {
    for (let refused = 0; refused < 3; ) {
      if ((await ledger.submit({ text: "waited", padding: "x".repeat(size) })) === undefined) refused++
    }
  }
  await submitUntilRefused(900_000)
  run("dd", "if=/dev/zero", `of=${join(disk, "taken")}`, "bs=4096")
  await submitUntilRefused(1000)
  expect(ledger.unanswered).toBe(0)
  expect(ledger.refusals).toEqual(new Set(["503 /problems/store-full"]))
  expect((await service.call("GET", "/health/live")).status).toBe(200)
  writeFileSync(until, "")
  await waitUntil(() => lives.read().some(({ ended }) => ended))

  if (then === "is killed") {
    await service.kill()
    await service.start(env)
  }
  // The service takes nothing on, also after a start; jobs are read, cancelled and removed.
  const ready = await service.call("GET", "/health/ready")
  expect([ready.status, ready.body.type]).toEqual([503, "/problems/store-full"])
  await service.call("POST", `/jobs/${unwanted}/cancel`)
  expect((await service.ended(unwanted, 60)).status).toBe("cancelled")
  expect((await service.call("DELETE", `/jobs/${unwanted}`)).status).toBe(204)
  expect(run("mount", "-o", "remount,size=64m", disk).status).toBe(0)
  await waitUntil(async () => (await service.call("GET", "/health/ready")).status === 200)
  await ledger.submit({ text: "new" })
  expect(await ledger.problems(() => lives.read())).toEqual([])
  expect(ledger.accepted.size).toBeGreaterThan(2)
  return null
}
