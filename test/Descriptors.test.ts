import { execFileSync, spawnSync } from "node:child_process"
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { open } from "lmdb"
import { afterEach, beforeEach, expect, it } from "vitest"
import { keepFromChildren } from "../src/Descriptors.js"

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "descriptors-"))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const inheritedBy = (command: string) =>
  spawnSync("/bin/sh", ["-c", command], { encoding: "utf8" }).stdout.split("\n").filter(Boolean)

const listing = "for fd in /proc/self/fd/*; do readlink $fd; done"

it("keeps the file of a database from every child, and the database goes on", async () => {
  const database = open<string, string>({ path: join(folder, "store"), noSubdir: false })
  const file = join(folder, "store", "data.mdb")
  try {
    await database.put("a", "1")
    expect(inheritedBy(listing)).toContain(file)
    keepFromChildren(file)
    expect(inheritedBy(listing)).not.toContain(file)
    await database.put("b", "2")
    expect([database.get("a"), database.get("b")]).toEqual(["1", "2"])
  } finally {
    await database.close()
  }
  const again = open<string, string>({ path: join(folder, "store"), noSubdir: false })
  expect([again.get("a"), again.get("b")]).toEqual(["1", "2"])
  await again.close()
})

it("leaves the files alone that close by themselves", () => {
  const file = join(folder, "own")
  writeFileSync(file, "x")
  const own = openSync(file, "r+")
  keepFromChildren(file)
  writeSync(own, "y", 0)
  expect(fstatSync(own).size).toBe(1)
  expect(readFileSync(file, "utf8")).toBe("y")
  closeSync(own)
})

it("closes what the parent of the service left open, whatever its number", () => {
  const module = JSON.stringify(new URL("../dist/Descriptors.js", import.meta.url).href)
  const program = `
    const { closeInherited } = await import(${module})
    closeInherited()
    const { spawnSync } = await import("node:child_process")
    console.log(spawnSync("/bin/sh", ["-c", ${JSON.stringify(listing)}], { encoding: "utf8" }).stdout)`
  const file = join(folder, "left")
  writeFileSync(file, "")
  const script = `exec 9<"$1" 200<"$1"; shift; exec "$@"`
  const said = execFileSync(
    "bash",
    ["-c", script, "bash", file, process.execPath, "--input-type=module", "--eval", program],
    { encoding: "utf8" },
  )
  expect(said).not.toContain(file)
})
