/** That a command is given its arguments, environment and folder byte for byte, in each mode. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, it } from "vitest"
import type { Service } from "../e2e/Service.js"
import { as, describeModes, serviceIn } from "./modes.js"

/** Just below the kernel's limit of one argument and of one variable with its name. */
const longest = 131_000
const awkward = "\"'`$(id)\\\n\t\r ;&|<>*?[]{}~#!% äß€😀\u0001\u007f "

/** `awkward` again and again, then a letter again and again, in so many bytes of UTF-8. */
const fillBytes = (bytes: number): string => {
  const text = awkward.repeat(Math.floor(bytes / Buffer.byteLength(awkward)))
  return text.padEnd(text.length + bytes - Buffer.byteLength(text), "x")
}

const many = Object.fromEntries(Array.from({ length: 300 }, (_, n) => [`MANY_${n}`, `${n} ${awkward}`]))
const env = { LONG: fillBytes(longest), EMPTY: "", ...many }

describeModes("a command in the mode %s", (mode) => {
  const parent = mkdtempSync(join(tmpdir(), "offload-folder-"))
  const folder = join(parent, "-a 'b' \"c\" $d\n\\e;#ä€")
  let service: Service
  beforeAll(async () => {
    mkdirSync(folder)
    for (const path of [parent, folder]) chmodSync(path, 0o755)
    const perl = (text: string) => ["perl", "-e", text, "--", "{system}"]
    service = serviceIn(mode, {
      resources: {
        argument: { command: perl("print $ARGV[0]") },
        variables: {
          command: perl('print map { "$_=$ENV{$_}\\0" } sort grep { /^(LONG|EMPTY|MANY_)/ } keys %ENV'),
          env: Object.keys(env),
        },
        folder: { command: perl("use POSIX (); print POSIX::getcwd()"), folder },
      },
      env,
    })
    // Longer than a variable of the service's own environment may be.
    const file = join(service.data, "resources.json")
    const resources = JSON.parse(service.env.OFFLOAD_RESOURCES ?? "{}")
    resources.constant = {
      ...resources.argument,
      command: [...perl("print $ARGV[0]").slice(0, -1), fillBytes(longest)],
    }
    writeFileSync(file, JSON.stringify(resources))
    chmodSync(file, 0o644)
    await service.start({ OFFLOAD_RESOURCES: file })
  })
  afterAll(async () => {
    await service.dispose()
    rmSync(parent, { recursive: true })
  })

  const textOf = async (resource: string, system = "-"): Promise<string> => {
    const { body, status } = await service.submit("p", { resource, system, maxAttempts: 1 }, as("mallory"))
    expect([status, body.detail]).toEqual([202, undefined])
    const job = await service.ended(body.id, 60, as("mallory"))
    expect(job.error).toBeNull()
    return job.output.text
  }

  it("is given an argument of 131,000 bytes as it is", async () => {
    expect((await textOf("constant")) === fillBytes(longest)).toBe(true)
  })

  it("is given the longest system prompt of a job as it is", async () => {
    const system = `=${fillBytes(99_999)}`
    expect((await textOf("argument", system)) === system).toBe(true)
  })

  it("is given hundreds of variables, one of them of 131,000 bytes, as they are", async () => {
    const expected = Object.entries(env).sort(([a], [b]) => (a < b ? -1 : 1))
    expect((await textOf("variables")) === expected.map(([key, value]) => `${key}=${value}\0`).join("")).toBe(true)
  })

  it("works in a folder whose name holds quotes, blanks and a line's end", async () => {
    expect(await textOf("folder")).toBe(folder)
  })

  it("is not started with an argument that holds a NUL", async () => {
    const { status } = await service.submit("p", { resource: "argument", system: "a\0b" }, as("mallory"))
    expect(status).toBe(422)
  })
})
