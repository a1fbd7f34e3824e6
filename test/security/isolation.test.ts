/** Commands that attack the service, the machine and the attempts of another caller, in each mode. */
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type Json, type Service, waitUntil } from "../e2e/Service.js"
import { attacks, cellOf, type Facts, perl } from "./attacks.js"
import { as, describeModes, type Mode, modeNames, serviceIn } from "./modes.js"

const limits = {
  memoryBytes: 2 ** 31,
  cpuSeconds: 60,
  fileBytes: 2 ** 30,
  openFiles: 256,
  processes: 200,
}

/** Another caller's attempt: it keeps a private file, and shared things in each place, and says again and again that it lives. */
const victimScript = (word: string): string => `
echo secret >private; echo secret >"$TMPDIR/private"
echo secret >/dev/shm/${word} 2>/dev/null
umask 022; echo secret >/tmp/${word}.shared
${perl("shmget(0x0ff10ad, 4096, 01600);")}
exec /bin/sh -c 'while :; do echo alive; sleep 0.1; done' ${word}`

class Field {
  readonly word = `victim-${process.pid}-${Math.random().toString(36).slice(2)}`
  readonly folder = mkdtempSync(join(tmpdir(), "offload-setuid-"))
  readonly service: Service
  victims: ReadonlyArray<string> = []

  constructor(mode: Mode) {
    this.service = serviceIn(mode, {
      resources: {
        attacked: { limits },
        other: { env: ["OTHER_SECRET"], limits },
      },
    })
  }

  async prepare(): Promise<void> {
    const { folder, service, word } = this
    chmodSync(folder, 0o755)
    copyFileSync("/usr/bin/id", this.setuid)
    chmodSync(this.setuid, 0o4755)
    await service.start()
    const submitted = ["attacked", "other"].map((resource) =>
      service.submit(victimScript(word), { resource, timeoutSeconds: 200 }, as("victor")),
    )
    this.victims = (await Promise.all(submitted)).map(({ body }) => body.id)
    await waitUntil(async () => (await this.beats()).every((count) => count > 0))
  }

  get setuid(): string {
    return join(this.folder, "id")
  }

  /** How often each victim has said that it lives. */
  beats(): Promise<ReadonlyArray<number>> {
    return Promise.all(
      this.victims.map(async (id) => {
        const { body } = await this.service.call("GET", `/jobs/${id}`, undefined, as("victor"))
        if (body.status !== "running" && body.status !== "queued") throw new Error(JSON.stringify(body))
        return String(body.output?.text ?? "").split("alive").length - 1
      }),
    )
  }

  facts(): Facts {
    const data = join(this.service.data, "data")
    const names = readdirSync(data, { recursive: true, encoding: "utf8" })
    const dataFiles = names.map((name) => join(data, name)).filter((path) => path.includes(".") || existsSync(path))
    return { servicePid: this.service.pid, data, dataFiles, victim: this.word, setuid: this.setuid }
  }

  /** Runs a script as the attacker's job. */
  async run(script: string, resource = "attacked"): Promise<Json> {
    const { body } = await this.service.submit(script, { resource, maxAttempts: 1 }, as("mallory"))
    return await this.service.ended(body.id, 60, as("mallory"))
  }

  /** That the service and the victims go on. */
  async isWell(): Promise<void> {
    const before = await this.beats()
    await waitUntil(async () => (await this.beats()).every((count, n) => count > (before[n] ?? 0)))
    expect((await this.run("echo well")).output.text).toBe("well\n")
  }

  async dispose(): Promise<void> {
    await Promise.all(
      this.victims.map((id) => this.service.call("POST", `/jobs/${id}/cancel`, undefined, as("victor"))),
    )
    await Promise.all(this.victims.map((id) => this.service.ended(id, 60, as("victor"))))
    await this.run(perl("my $id = shmget(0x0ff10ad, 0, 0); shmctl($id, 0, 0) if defined $id;"))
    await this.service.dispose()
    for (const path of [this.folder, `/tmp/${this.word}.shared`, `/dev/shm/${this.word}`]) {
      rmSync(path, { recursive: true, force: true })
    }
  }
}

describeModes("a command in the mode %s", (mode, name) => {
  const field = new Field(mode)
  beforeAll(() => field.prepare())
  afterAll(() => field.dispose())

  it.each(attacks.filter((attack) => ["holds", "open"].includes(cellOf(attack, name))))("$name", async (attack) => {
    const job = await field.run(attack.script(field.facts()))
    const got = String(job.output?.text ?? "")
    expect([job.status, job.error?.detail]).toEqual(["succeeded", undefined])
    if (cellOf(attack, name) === "holds") expect(got).toBe("")
    else expect(got).not.toBe("")
    if (attack.isDangerous === true) await field.isWell()
  })

  it("leaves the service and the other attempts well, whatever it tried", () => field.isWell())
})

describe("the table of docs/security.md", () => {
  const words: Readonly<Record<string, string>> = {
    holds: "holds",
    open: "**does not hold**",
    todo: "**does not hold**",
  }
  const text = readFileSync(new URL("../../docs/security.md", import.meta.url), "utf8")

  it("has the modes as its columns", () => {
    expect(text).toContain(`| A command … | ${modeNames.join(" | ")} |`)
  })

  it.each(attacks)("says what the tests show: $name", ({ cells, name }) => {
    expect(text).toContain(`| ${name} | ${cells.map((cell) => words[cell] ?? cell).join(" | ")} |`)
  })
})
