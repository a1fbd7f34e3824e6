/** The audit over small programs, one for each verdict: `fixtures/` holds them, and nothing else compiles them. */
import { spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import type ts from "typescript"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { run } from "../../src/Audit.js"

const root = resolve(import.meta.dirname, "../..")
const fixtures = join(import.meta.dirname, "fixtures")

/** The compiler's library, Effect and src are parsed once for all of them. */
const parsed = new Map<string, ts.SourceFile>()

const auditOf = (fixture: string, ...args: ReadonlyArray<string>) =>
  run(["audit", "-p", fixture, ...args], fixtures, parsed)

/** Its exit code, and the lines of its faults. */
const faultsOf = (fixture: string) => {
  const { exitCode, stdout } = auditOf(fixture)
  return { exitCode, faults: stdout.split("\n").filter((line) => /^\S+ [a-z-]+: /.test(line)) }
}

/** Reading the compiler's library and Effect for the first time takes seconds. */
const slow = 120_000

describe("the table", () => {
  it("has each place, error, disposition and reason of a program without a fault", { timeout: slow }, () => {
    const { exitCode, stderr, stdout } = auditOf("clean")
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" })
    expect(stdout).toBe(readFileSync(join(fixtures, "clean/expected.txt"), "utf8"))
  })

  it("is the same as Markdown and as JSON", { timeout: slow }, () => {
    expect(auditOf("clean", "--format", "markdown").stdout).toContain(
      "| `Broken` | no | Warning or Error | OvenBroken | none | bySwitch |",
    )
    const { forks, places } = JSON.parse(auditOf("clean", "--format", "json").stdout)
    expect(places[0].rows[3]).toEqual({
      tag: "Asleep",
      handler: "bySwitch",
      retryable: "yes",
      level: "Info",
      storedTag: "LlmOverloaded",
      problem: "/problems/LlmOverloaded",
      also: ["may not count as an attempt"],
    })
    expect(forks[0]).toMatchObject({ where: { file: "program.ts", line: 60, within: "start" }, settled: true })
  })

  it("says where a decision is computed, and by what", { timeout: slow }, () => {
    const { exitCode, stdout } = auditOf("computed", "--format", "markdown")
    expect(exitCode).toBe(0)
    expect(stdout).toContain("| `TooHot` | computed | Info | TooHot | none | TooHot |")
    expect(stdout).toContain("| `TooCold` | computed | computed | computed | none | decide |")
    expect(stdout).toContain("| `Broken` | computed | computed | computed | none | handlersOfToday |")
  })

  it("fits into a terminal of 120 columns", { timeout: slow }, () => {
    for (const fixture of ["clean", "computed"]) {
      const lines = auditOf(fixture).stdout.split("\n")
      expect(lines.filter((line) => line.length > 120)).toEqual([])
    }
  })
})

describe("a program fails the audit", { timeout: slow }, () => {
  it("never-raised: where an error class is declared and never raised", () => {
    expect(faultsOf("never-raised")).toEqual({
      exitCode: 1,
      faults: [
        "program.ts:5 never-raised: Forgotten is declared and never raised",
        "program.ts:6 never-raised: Plain is declared and never raised",
      ],
    })
  })

  it("not-in-table: where an error is raised, and neither settled nor answered by its name", () => {
    expect(faultsOf("not-in-table")).toEqual({
      exitCode: 1,
      faults: [
        "program.ts:4 not-in-table: Lost is raised, and neither settled nor answered by its name anywhere",
        "program.ts:6 not-in-table: Untagged is raised, and neither settled nor answered by its name anywhere",
      ],
    })
  })

  it("untyped: where a public signature or a settled work can fail with unknown, any or Error", () => {
    expect(faultsOf("untyped")).toEqual({
      exitCode: 1,
      faults: [
        "program.ts:6 untyped: `heat` can fail with unknown",
        "program.ts:7 untyped: `cool` can fail with Error",
        "program.ts:8 untyped: `mixed` can fail with Error",
        "program.ts:9 untyped: `open` can fail with any",
        "program.ts:10 untyped: `layer` can fail with Error",
        "program.ts:12 untyped: `Oven.bake` can fail with Error",
        "program.ts:13 untyped: `Oven.check` can fail with unknown",
        "program.ts:17 untyped: `Door.close` can fail with unknown",
        "program.ts:26 untyped: `Window.look` can fail with unknown",
        "program.ts:38 untyped: the work of `settle` can fail with any, which has no tag",
        "program.ts:40 untyped: the work of `settle` can fail with Error, which has no tag",
      ],
    })
  })

  it("word: where one of Effect's words stands that the list does not allow, under any name", () => {
    const { exitCode, faults } = faultsOf("word")
    expect(exitCode).toBe(1)
    expect(faults.map((line) => line.split("`", 2).join(""))).toEqual(
      [
        "forkDaemon",
        "runFork",
        "orDie",
        "orDieWith",
        "ignore",
        "ignoreLogged",
        "catchAllCause",
        "forkDaemon",
        "ignore",
        "orDie",
        "orDie",
        "runFork",
        "runFork",
        "catchAllCause",
      ].map((word, index) => `program.ts:${index + 7} word: ${word}`),
    )
    expect(faults[4]).toBe("program.ts:11 word: `ignore` drops a failure; audit.json does not allow it here")
  })

  it("unused-entry: where the list allows what is not there, or not so often", () => {
    expect(faultsOf("unused-entry")).toEqual({
      exitCode: 1,
      faults: [
        'audit.json:1 unused-entry: `orDie` stands less often in program.ts than it says ("it stood here once")',
        'audit.json:1 unused-entry: TooHot of program.ts is in the table without it, or is not there ("nothing has to answer it, it was thought")',
        "program.ts:9 word: `ignore` drops a failure; audit.json does not allow it here",
      ],
    })
  })

  it("not-settled: where a cast gets something past `fork`", () => {
    expect(faultsOf("not-settled")).toEqual({
      exitCode: 1,
      faults: [
        "program.ts:6 not-settled: `fork` starts anything, which `settle` did not make",
        "program.ts:7 not-settled: `fork` starts Effect.void as unknown as Settled, which `settle` did not make",
        "program.ts:9 not-settled: `fork` starts Effect.void, which `settle` did not make",
      ],
    })
  })

  it("no-handler: where nothing handles an error of the work", () => {
    expect(faultsOf("no-handler")).toEqual({
      exitCode: 1,
      faults: ["program.ts:11 no-handler: nothing handles TooCold, which the work can fail with"],
    })
  })

  it("no-places: where nothing calls the library's `settle`", () => {
    expect(faultsOf("no-places")).toEqual({
      exitCode: 1,
      faults: ["tsconfig.json no-places: nothing in this program calls `settle`"],
    })
  })
})

describe("a program cannot be audited", { timeout: slow }, () => {
  let folder = ""
  const write = (name: string, text: string) => {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  const link = (name: string, to: string) => {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    symlinkSync(join(root, to), join(folder, name))
  }
  const refusal = (...args: ReadonlyArray<string>) => {
    const { exitCode, stderr, stdout } = run(args, folder, parsed)
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" })
    return stderr.replaceAll(folder, "…")
  }

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "offload-audit-"))
    write("bare/tsconfig.json", "{}")
    link("user/node_modules/typescript", "node_modules/typescript")
    link("user/node_modules/effect", "node_modules/effect")
    link("user/node_modules/effect-offload", ".")
    const options = `"strict": true, "module": "NodeNext", "lib": ["ES2023"], "types": []`
    write("user/package.json", `{ "type": "module" }`)
    write("user/tsconfig.json", `{ "compilerOptions": { ${options} }, "include": ["src"] }`)
    write("user/tsconfig.loose.json", `{ "include": ["src"] }`)
    write("user/tsconfig.all.json", `{ "files": [], "references": [{ "path": "app" }, { "path": "lib" }] }`)
    write("user/tsconfig.lost.json", `{ "compilerOptions": { ${options} }, "include": ["lost"] }`)
    write("user/listed/tsconfig.json", `{ "extends": "../tsconfig.json", "include": ["../src"] }`)
    write("user/listed/audit.json", `[{ "file": "src/a.ts", "word": "orDie", "reason": " " }]`)
    write("user/lost/program.ts", `import { settle } from "no-such-package"\nexport const a = settle\n`)
    write(
      "user/src/program.ts",
      `import { Data, Effect } from "effect"
import { type Handled, JobError, type Queued, settle } from "effect-offload"

class NoBread extends Data.TaggedError("NoBread")<{ readonly left: number }> {}

const exit = (error: JobError.LlmExit): Handled => ({
  level: JobError.dispositions[error._tag].level,
  failure: JobError.toFailure(error),
})

declare const failing: Effect.Effect<{}, JobError.LlmExit>

export const bake = (job: Queued) =>
  settle(job, Effect.zipRight(failing, Effect.fail(new NoBread({ left: 0 }))), {
    NoBread: () => ({ level: "Info", failure: { tag: "NoBread", title: "", detail: "", retryable: true } }),
    LlmExit: exit,
  })
`,
    )
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it("without a tsconfig, a compiler, strict types, files of its own, or what it imports", () => {
    expect(refusal("audit", "-p", "none.json")).toBe("There is no …/none.json.\n")
    expect(refusal("audit", "-p", "bare")).toMatch(/^No TypeScript is installed for …\/bare: .*npm install --save-dev/)
    expect(refusal("audit", "-p", "user/tsconfig.loose.json")).toContain("does not set `strict`")
    expect(refusal("audit", "-p", "user/tsconfig.all.json")).toContain("one by one (app, lib)")
    expect(refusal("audit", "-p", "user/tsconfig.lost.json")).toBe(
      `lost/program.ts imports "no-such-package", which is not found.\n`,
    )
  })

  it("with a list that gives no reason", () => {
    expect(refusal("audit", "-p", "user/listed")).toContain("audit.json: entry 1 must be {file, word, reason, times?}")
  })

  it("by a command line that says something else", () => {
    expect(refusal()).toMatch(/^The command is `audit`\.\n\nUsage: effect-offload audit/)
    expect(refusal("audit", "--format", "yaml")).toMatch(/^There is no format 'yaml'\./)
    expect(refusal("audit", "--projekt", "x")).toContain("--projekt")
    expect(run(["--help"], folder).exitCode).toBe(0)
  })

  it("but can where the library is a package of it, by the built command line", () => {
    const { status, stderr, stdout } = spawnSync(process.execPath, [join(root, "dist/bin.js"), "audit"], {
      cwd: join(folder, "user"),
      encoding: "utf8",
    })
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" })
    expect(stdout).toMatch(/^src\/program\.ts:14 {2}settle, in bake\n/)
    expect(stdout).toContain("\n  NoBread  yes        Info       NoBread     none               NoBread\n")
    expect(stdout).toContain("\n  LlmExit  yes        Warning    LlmExit     /problems/LlmExit  exit\n")
    expect(stdout).toMatch(/\nNo fault\.\n$/)
  })
})
