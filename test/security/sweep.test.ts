/** A shared temporary folder in which another user has put something under the names of the service. */
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { identify } from "../../src/Llm/Marker.js"
import type { Service } from "../e2e/Service.js"
import { as, type Mode, missing, modes, serviceIn } from "./modes.js"

const stranger = 65_533

const mode: Mode = modes["namespace, as root"]
const reason = missing(mode) === null ? null : "only root can give files to another user"
if (reason !== null) console.info(`${reason}: the tests of a shared temporary folder are skipped`)

describe.skipIf(reason !== null)("a start in a temporary folder that is shared", () => {
  let shared: string
  let target: string
  let service: Service
  let root: string

  beforeEach(() => {
    shared = mkdtempSync(join(tmpdir(), "offload-shared-"))
    chmodSync(shared, 0o1777)
    target = join(shared, "target")
    mkdirSync(target)
    writeFileSync(join(target, "precious"), "kept")
    service = serviceIn(mode, { resources: { llm: {} }, env: { TMPDIR: shared, OFFLOAD_CONTAINMENT: "auto" } })
    root = join(shared, `offload-${identify(join(service.data, "data")).installation}`)
  })
  afterEach(async () => {
    await service.dispose()
    expect(readdirSync(target)).toEqual(["precious"])
    rmSync(shared, { recursive: true })
  })

  /** The name of a folder of an attempt whose service has ended. */
  const abandoned = "1.1-aaaaaa"

  it("does not follow a symbolic link with the name of an attempt's folder", async () => {
    mkdirSync(root, { mode: 0o700 })
    symlinkSync(target, join(root, abandoned))
    lchownSync(join(root, abandoned), stranger, stranger)
    mkdirSync(join(root, "1.1-foreign"))
    writeFileSync(join(root, "1.1-foreign", "file"), "kept")
    chownSync(join(root, "1.1-foreign"), stranger, stranger)
    mkdirSync(join(root, "1.1-own", "work"), { recursive: true })
    symlinkSync(target, join(root, "1.1-own", "work", "link"))
    await service.start()
    const { body } = await service.submit("true", {}, as("mallory"))
    expect((await service.ended(body.id, 60, as("mallory"))).status).toBe("succeeded")
    const left = readdirSync(root)
    expect(left).toEqual(expect.arrayContaining([abandoned, "1.1-foreign"]))
    expect(left).not.toContain("1.1-own")
    expect(existsSync(join(root, "1.1-foreign", "file"))).toBe(true)
  })

  it.each([
    ["a symbolic link", () => symlinkSync(target, root)],
    ["a folder of another user", () => mkdirSync(root, { mode: 0o777 })],
    ["a file", () => writeFileSync(root, "")],
  ])("is refused with the folder's name where %s has the name of the service's own", async (_, put) => {
    put()
    lchownSync(root, stranger, stranger)
    await expect(service.start()).rejects.toThrow(root)
    expect(service.log).toContain("ENOTOWN")
  })
})
