/** What holds a process group together: its reaper, else its cgroup, else a search. */
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { make as makeTree } from "../../src/Llm/ProcessTree.js"
import { type Service, start } from "../../src/Llm/Sandbox.js"
import { defaultLimits } from "../../src/OffloadConfig/Resources.js"
import { type Data, exists, makeData, openService, sh, waitUntil } from "./harness.js"

let data: Data
let service: Service
let close: () => Promise<void>
beforeEach(async () => {
  data = makeData()
  ;({ close, service } = await openService("group", data.folder))
})
afterEach(async () => {
  await close()
  expect(data.all()).toEqual([])
  expect(data.folders()).toEqual([])
  data.remove()
})

/** Leaves the session, its parent and its environment behind, and writes down its process id. */
const daemon = (file: string) => `(env -i setsid sh -c 'echo $$ >>${file}; trap "" TERM HUP; sleep 600; sleep 600' &)`

const pidsIn = (file: string): ReadonlyArray<number> =>
  existsSync(file) ? readFileSync(file, "utf8").trim().split("\n").filter(Boolean).map(Number) : []

/** As on a machine for which the launcher knows no system call. */
const withoutReaper = (given: Service): Service => ({ ...given, kind: "bare" })

const kinds: ReadonlyArray<readonly [string, (given: Service) => Service | null]> = [
  ["reaper", (given) => (given.kind === "group" ? { ...given, cgroups: null } : null)],
  ["cgroup", (given) => (given.cgroups === null ? null : withoutReaper(given))],
  ["search", (given) => ({ ...withoutReaper(given), cgroups: null })],
]

describe.each(kinds)("a group that is held together by its %s", (knownBy, kindOf) => {
  const begin = (script: string) => {
    const kind = kindOf(service)
    if (kind === null) return null
    const file = join(data.files, "pids")
    const tree = makeTree({
      sandboxes: { take: () => start(kind, { limits: defaultLimits, user: null }) },
      graceMillis: 100,
    })
    const ended = tree.run({
      argv: sh(script.replaceAll("DAEMON", `${daemon(file)}; while [ ! -s ${file} ]; do sleep 0.01; done`)),
      cwd: null,
      env: { PATH: process.env.PATH ?? "" },
      stdin: "",
      onOutput: () => true,
      onError: () => {},
    })
    return { file, tree, ended }
  }

  it("leaves no daemon after a good end", async ({ skip }) => {
    const begun = begin("DAEMON; exit 3")
    if (begun === null) return skip(`this machine has no ${knownBy}`)
    expect(await begun.ended).toMatchObject({ _tag: "Exited", exitCode: 3 })
    expect(await begun.tree.end()).toMatchObject({ gone: true, ending: null })
    expect(pidsIn(begun.file)).toHaveLength(1)
    expect(pidsIn(begun.file).filter(exists)).toEqual([])
  })

  it("leaves no daemon when it is ended, and says how that is known", async ({ skip }) => {
    const begun = begin("trap '' TERM; DAEMON; while :; do sleep 1; done")
    if (begun === null) return skip(`this machine has no ${knownBy}`)
    await waitUntil(() => pidsIn(begun.file).length === 1)
    const { ending, gone } = await begun.tree.end()
    expect(gone).toBe(true)
    expect(ending).toMatchObject({ signals: ["SIGTERM", "SIGKILL"], knownBy })
    expect(pidsIn(begun.file).filter(exists)).toEqual([])
  })
})

describe("a group whose command kills its leader", () => {
  it.each(["cgroup", "search"] as const)("leaves nothing that its %s finds", async (knownBy) => {
    if (knownBy === "cgroup" && service.cgroups === null) return
    const kind = knownBy === "cgroup" ? service : { ...service, cgroups: null }
    const file = join(data.files, "pids")
    const tree = makeTree({
      sandboxes: { take: () => start(kind, { limits: defaultLimits, user: null }) },
      graceMillis: 100,
    })
    await tree.run({
      argv: sh(`${daemon(file)}; while [ ! -s ${file} ]; do sleep 0.01; done; kill -KILL $PPID; sleep 600`),
      cwd: null,
      env: { PATH: process.env.PATH ?? "" },
      stdin: "",
      onOutput: () => true,
      onError: () => {},
    })
    expect(await tree.end()).toMatchObject({ gone: true })
    expect(pidsIn(file)).toHaveLength(1)
    expect(pidsIn(file).filter(exists)).toEqual([])
  })
})
