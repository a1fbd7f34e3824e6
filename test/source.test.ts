/** What must hold of the text of `src`, and of the rules that check its imports. */
import { execFileSync, spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import ts from "typescript"
import { afterAll, beforeAll, describe, expect, it } from "vitest"

const root = resolve(import.meta.dirname, "..")

describe("words of src", () => {
  /** Each word that src does without, and why. Those that drop failures are the audit's: see audit.json. */
  const forbidden: Record<string, string> = {
    any: "turns the checks off for everything that it touches",
    runCallback: "main.ts alone runs effects",
    runPromise: "main.ts alone runs effects",
    runPromiseExit: "main.ts alone runs effects",
    runSync: "main.ts alone runs effects",
    runSyncExit: "main.ts alone runs effects",
    runMain: "main.ts alone runs effects",
  }

  /** The words of a program as `file word`; comments and texts are not among them. */
  const words = (file: string, text: string): ReadonlyArray<string> => {
    const found: Array<string> = []
    const visit = (node: ts.Node): void => {
      if (node.kind === ts.SyntaxKind.AnyKeyword) found.push(`${file} any`)
      if (ts.isIdentifier(node)) found.push(`${file} ${node.text}`)
      ts.forEachChild(node, visit)
    }
    visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true))
    return found
  }

  /** main.ts, the place that runs, is not looked at. */
  const offences = (found: ReadonlyArray<string>) =>
    found.filter((entry) => {
      const [file, word] = entry.split(" ", 2)
      return file !== "src/main.ts" && Object.hasOwn(forbidden, word ?? "")
    })

  const found = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .flatMap((name) => words(`src/${name}`, readFileSync(join(root, "src", name), "utf8")))

  it("runs no effect outside main.ts and says `any` nowhere", () => {
    expect(offences(found)).toEqual([])
  })

  it("would find each of them", () => {
    const text = `
      // any runSync in a comment
      const text = "any Effect.runSync in a text"
      const value: any = Effect.runSync(work)
      import { runPromise } from "effect/Effect"`
    const sample = words("src/Bad.ts", text)
    expect(offences(sample).map((entry) => entry.slice("src/Bad.ts ".length))).toEqual(["any", "runSync", "runPromise"])
  })
})

describe("rules for imports", () => {
  /** One import against each rule: `[rule, from, specifier]`. The files are made up, the rules are the real ones. */
  const offences = [
    ["room-Job", "src/Job/A.ts", "../OffloadConfig.js"],
    ["room-OffloadConfig", "src/OffloadConfig.ts", "./Store.js"],
    ["room-Metrics", "src/Metrics.ts", "./Store.js"],
    ["room-Redis", "src/Redis.ts", "./Store.js"],
    ["room-Log", "src/Log.ts", "./Metrics.js"],
    ["room-Descriptors", "src/Descriptors.ts", "./Metrics.js"],
    ["room-Signals", "src/Signals.ts", "./Metrics.js"],
    ["room-Store", "src/Store/A.ts", "../Llm.js"],
    ["room-Llm", "src/Llm/A.ts", "../Offload.js"],
    ["room-Webhook", "src/Webhook/A.ts", "../Store.js"],
    ["room-Offload", "src/Offload/A.ts", "../Http.js"],
    ["room-Api", "src/Api/A.ts", "../Offload.js"],
    ["room-Http", "src/Http/A.ts", "../Store.js"],
    ["room-Client", "src/Client.ts", "./Http.js"],
    ["room-Telemetry", "src/Telemetry.ts", "./Store.js"],
    ["room-Audit", "src/Audit/A.ts", "../Store.js"],
    ["room-unknown", "src/Helpers.ts", "./Job.js"],
    ["backend-by-main-alone", "src/Store/B.ts", "./Lmdb.js"],
    ["contract-only", "src/Offload/B.ts", "../Llm/Parse.js"],
    ["client-anywhere", "src/Client/A.ts", "node:crypto"],
    ["compiler-by-audit-alone", "src/Http/H.ts", "typescript"],
    ["main-is-the-end", "test/main.ts", "../src/main.js"],
    ["no-circular", "src/Http/B.ts", "./C.js"],
    ["src-alone", "src/Http/D.ts", "../../test/main.js"],
    ["no-dev-dependency", "src/Http/E.ts", "dev-only"],
    ["declared", "src/Http/F.ts", "not-installed"],
  ] as const

  /** Imports that the rules allow, so that a rule which forbids everything is found too. */
  const fine = [
    // The way back of the circle, which is reported once.
    ["src/Http/C.ts", "./B.js"],
    ["src/main.ts", "./Http.js"],
    ["src/main.ts", "./Store/Lmdb.js"],
    ["src/index.ts", "./Store/Lmdb.js"],
    ["src/index.ts", "./Llm/Parse.js"],
    ["src/Http/G.ts", "../Offload.js"],
    ["src/Http/G.ts", "../Api.js"],
    ["src/Http/G.ts", "node:http"],
    ["src/Api/B.ts", "../Job.js"],
    ["src/Offload/C.ts", "../Store.js"],
    ["src/Offload/C.ts", "../Llm.js"],
    ["src/Store/Lmdb.ts", "../Store.js"],
    ["src/Store/Lmdb.ts", "../Job/A.js"],
    ["src/Store/Lmdb.ts", "installed"],
    ["src/Audit/B.ts", "typescript"],
    ["src/bin.ts", "./Audit.js"],
  ] as const

  const rooms = [
    "Job",
    "OffloadConfig",
    "Metrics",
    "Redis",
    "Log",
    "Store",
    "Llm",
    "Webhook",
    "Offload",
    "Api",
    "Http",
    "Client",
    "Audit",
  ]
  const depcruise = join(root, "node_modules/.bin/depcruise")
  let directory = ""

  const write = (name: string, text: string) => {
    mkdirSync(dirname(join(directory, name)), { recursive: true })
    writeFileSync(join(directory, name), text)
  }

  /** What `npm run imports` says of a folder. */
  const cruise = (cwd: string, ...args: ReadonlyArray<string>) =>
    spawnSync(depcruise, ["--config", join(root, ".dependency-cruiser.mjs"), ...args], { cwd, encoding: "utf8" })

  /** An import of a type is knowledge of another room like any other, in each of its spellings. */
  const spellings = [
    (to: string, n: number) => `import * as name${n} from "${to}"; export const value${n} = name${n}`,
    (to: string, n: number) => `import type { A as A${n} } from "${to}"; export type Type${n} = A${n}`,
    (to: string, n: number) => `export type { A as B${n} } from "${to}"`,
    (to: string, n: number) => `export type Type${n} = import("${to}").A`,
  ]

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "offload-imports-"))
    write(
      "package.json",
      `{"dependencies": {"installed": "1"}, "devDependencies": {"dev-only": "1", "typescript": "1"}, "peerDependencies": {"typescript": "1"}}`,
    )
    for (const name of ["installed", "dev-only", "typescript"]) {
      write(`node_modules/${name}/package.json`, `{"name": "${name}", "main": "index.js"}`)
      write(`node_modules/${name}/index.js`, "")
    }
    for (const room of [...rooms, "Llm/Parse"]) write(`src/${room}.ts`, "export type A = 1\n")
    const texts = new Map<string, string>()
    const imports = [...offences.map(([, from, to]) => [from, to] as const), ...fine]
    for (const [n, [from, to]] of imports.entries()) {
      texts.set(from, `${texts.get(from) ?? "export type A = 1\n"}${spellings[n % spellings.length]?.(to, n)}\n`)
    }
    for (const [name, text] of texts) write(name, text)
  })

  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  it("each catch an import against them, and nothing else", () => {
    const { stdout } = cruise(directory, "--output-type", "json", "src", "test")
    const { violations } = JSON.parse(stdout).summary as {
      violations: ReadonlyArray<{ rule: { name: string; severity: string }; from: string }>
    }
    expect(violations.map(({ rule, from }) => `${rule.severity} ${rule.name} ${from}`).sort()).toEqual(
      offences.map(([rule, from]) => `error ${rule} ${from}`).sort(),
    )
  })

  it("each have such an import here", () => {
    const config = join(root, ".dependency-cruiser.mjs")
    const names = execFileSync(process.execPath, [
      "--input-type=module",
      "--eval",
      `import config from ${JSON.stringify(config)}; console.log(config.forbidden.map(({ name }) => name).join("\\n"))`,
    ])
    expect([...new Set(offences.map(([rule]) => rule))].sort()).toEqual(names.toString().trim().split("\n").sort())
  })

  it("fail the check", () => {
    expect(cruise(directory, "src").status).not.toBe(0)
  })
})
