import { readdirSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { describe, expect, it } from "vitest"
import * as Keys from "../../src/Store/Redis/Keys.js"
import { asked } from "../../src/Store/Redis/Rights.js"

/** What scripts in a folder call, in capitals. */
const callsIn = (folder: string, isUsed: (file: string) => boolean) =>
  readdirSync(folder)
    .filter((file) => /\.[jt]s$/.test(file) && !file.endsWith(".d.ts") && isUsed(file))
    .flatMap((file) => [...readFileSync(join(folder, file), "utf8").matchAll(/\b(?:redis\.call|rcall)\(\s*["'](\w+)/g)])
    .map(([, name = ""]) => name.toUpperCase())

describe("the rights that are looked for at the start", () => {
  const names = asked(Keys.make("{test}:")).map(([name]) => name)

  it("are those of all scripts of the store", () => {
    const calls = callsIn("src/Store/Redis", () => true)
    expect(calls.length).toBeGreaterThan(20)
    expect(calls.filter((name) => !names.includes(name))).toEqual([])
  })

  it("are those of the scripts of BullMQ that are used", () => {
    const used =
      /^(addStandardJob|moveToActive|moveToFinished|moveStalledJobsToWait|extendLocks?|moveJobFromActiveToWait|getRanges|releaseLock)-/
    const scripts = join(dirname(createRequire(import.meta.url).resolve("bullmq")), "../esm/scripts")
    const calls = callsIn(scripts, (file) => used.test(file))
    expect(calls.length).toBeGreaterThan(100)
    expect([...new Set(calls)].filter((name) => !names.includes(name))).toEqual([])
  })
})
