/** The launcher of sandboxes: what it is, what happens when it is lost, and who may connect to its service. */
import { execFileSync } from "node:child_process"
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { isRefusal } from "../../src/Llm/Containment.js"
import { identify } from "../../src/Llm/Marker.js"
import { start } from "../../src/Llm/Sandbox.js"
import { defaultLimits } from "../../src/OffloadConfig/Resources.js"
import { memoryOf } from "../e2e/memory.js"
import { descriptorsOf } from "../security/machine.js"
import { type Data, killLaunchers, launchers, makeData, modes, openService, sh, waitUntil, withLlm } from "./harness.js"

let data: Data
beforeEach(() => {
  data = makeData()
})
afterEach(() => {
  expect(data.all()).toEqual([])
  expect(data.folders()).toEqual([])
  data.remove()
})

const profile = { limits: defaultLimits, user: null }

describe.each(modes)("the launcher of sandboxes in a %s", (mode) => {
  const run = <A>(command: ReturnType<typeof sh>, use: Parameters<typeof withLlm<A>>[2], settings = {}) =>
    withLlm({ data: data.folder, llmCommand: command, ...settings }, mode, use)

  it("is one process of less than 10 MB, has three descriptors, and ends with its layer", async () => {
    const before = launchers()
    await run(sh("cat"), async ({ call }) => {
      await Promise.all([call(), call()])
      const [pid = 0, ...more] = launchers().filter((found) => !before.includes(found))
      expect(more).toEqual([])
      expect(memoryOf(pid).now * 1024).toBeLessThan(10_000)
      expect([...descriptorsOf(pid).keys()]).toEqual([0, 1, 2])
    })
    expect(launchers()).toEqual(before)
  })

  it("gives a command signals as a shell does: none blocked, none ignored", async () => {
    const { text } = await run(sh("exec grep -E '^Sig(Blk|Ign)' /proc/self/status"), ({ call }) => call())
    expect(text.replaceAll(/\s+/g, " ").trim()).toMatch(/^SigBlk: 0+ SigIgn: 0+$/)
  })

  it("takes attempts that run with it when it is killed, and the next attempt starts another one", async () => {
    await run(["/bin/sh", "-c", 'eval "$1"', "sh", "{model}"], async ({ call, start }) => {
      const attempt = start({ input: { prompt: "p", model: "(setsid sleep 60 &) ; echo up; sleep 60" } })
      await waitUntil(() => attempt.text() === "up\n")
      await killLaunchers()
      const { result } = await attempt.answer()
      expect({ ...result }).toMatchObject({ _tag: "LlmExit" })
      expect(data.processes()).toEqual([])
      expect(await call({ input: { prompt: "again", model: "cat" } })).toMatchObject({ text: "again", result: {} })
    })
  })

  it("ends an attempt that is ended while the launcher is stopped", async () => {
    await run(sh("echo up; sleep 60"), async ({ start }) => {
      const attempt = start()
      await waitUntil(() => attempt.text() === "up\n")
      for (const pid of launchers()) process.kill(pid, "SIGSTOP")
      await attempt.interrupt()
      expect(data.processes()).toEqual([])
    })
  })

  it("works where the path of the temporary folder is longer than the address of a socket may be", async () => {
    const before = process.env.TMPDIR
    const long = join(data.files, "x".repeat(120))
    mkdirSync(long)
    process.env.TMPDIR = long
    try {
      expect(await run(sh("cat"), ({ call }) => call())).toMatchObject({ text: "hello", result: {} })
    } finally {
      if (before === undefined) delete process.env.TMPDIR
      else process.env.TMPDIR = before
    }
    expect(readdirSync(long)).toEqual([])
  })

  it("tells a command that the system does not execute from a machine that has no room", async () => {
    const file = join(data.files, "no-interpreter")
    writeFileSync(file, "#!/no/such/interpreter\n")
    chmodSync(file, 0o755)
    const refused = await withLlm({ data: data.folder, llmCommand: [file] }, mode, ({ call }) => call())
    expect({ ...refused.result }).toMatchObject({ _tag: "LlmNotFound", command: file })
    const words = Array.from({ length: 40 }, () => "w".repeat(100_000))
    const large = await withLlm({ data: data.folder, llmCommand: ["/bin/true", ...words] }, mode, ({ call }) => call())
    expect({ ...large.result }).toMatchObject({ _tag: "LlmSpawn", code: "E2BIG" })
  })

  it("sends no signal to a sandbox that has ended", async () => {
    const { close, service } = await openService(mode, data.folder)
    const sandbox = await start(service, profile)
    if (isRefusal(sandbox)) throw new Error(sandbox.detail)
    const started = sandbox.launch({ argv: sh("exit 3"), cwd: null, env: {}, stdin: "", onBegin: () => {} })
    if (isRefusal(started)) throw new Error(started.detail)
    expect(await started.exited).toEqual([3, null])
    await sandbox.removed
    started.signal("SIGKILL")
    started.signal("SIGTERM")
    started.close()
    const next = await start(service, profile)
    expect(isRefusal(next)).toBe(false)
    if (isRefusal(next)) return
    next.discard()
    await next.removed
    await close()
  })
})

describe("the socket of a service", () => {
  /** What a stranger is told that says this; `null`: nothing, and the connection was closed. */
  const say = (path: string, words: string) =>
    new Promise<string>((resolve) => {
      let told = ""
      const socket = connect(path, () => socket.write(words))
      socket.on("data", (chunk) => {
        told += chunk
      })
      socket.on("error", () => {}).on("close", () => resolve(told))
    })

  it("gives a stranger nothing, and attempts go on beside a crowd of them", async () => {
    const root = join(tmpdir(), `offload-${identify(data.folder).installation}`)
    await withLlm({ data: data.folder, llmCommand: ["cat"] }, "group", async ({ call }) => {
      expect((await call()).text).toBe("hello")
      const name = readdirSync(root).find((entry) => entry.endsWith(".socket")) ?? ""
      const path = join(root, name)
      expect(
        await Promise.all(["", "c", "0".repeat(33), `${"f".repeat(32)}c`].map((words) => say(path, words))),
      ).toEqual(["", "", "", ""])
      const crowd = Array.from({ length: 200 }, () => connect(path).on("error", () => {}))
      expect((await call()).text).toBe("hello")
      for (const each of crowd) each.destroy()
    })
    expect(existsSync(root)).toBe(false)
  })

  it("gives nothing to a command of the same user that finds it", async () => {
    const attack = `use Socket; for my $path (glob "$ENV{TMPDIR}/../../*.socket") {
      for my $role (0, 1, 2, 'c') {
        socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die; connect($s, pack_sockaddr_un($path)) or die "connect: $!";
        syswrite $s, ('0' x 32) . $role; print sysread($s, my $got, 9) ? "got $got" : "nothing ";
      }
    }`
    const { text } = await withLlm({ data: data.folder, llmCommand: ["perl", "-e", attack] }, "group", ({ call }) =>
      call(),
    )
    expect(text).toBe("nothing nothing nothing nothing ")
  })
})

describe("a service without Perl", () => {
  it("does not start, and says what to install", async () => {
    const before = process.env.PATH
    process.env.PATH = data.files
    try {
      await expect(withLlm({ data: data.folder, llmCommand: ["/bin/cat"] }, "auto", async () => {})).rejects.toThrow(
        "install the package perl-base",
      )
    } finally {
      process.env.PATH = before
    }
  })
})

describe("the programs in Perl", () => {
  const names = ["launcher.pl", "sandbox.pl", "system.pl"]
  const path = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url))

  it("are in the package, beside what was compiled", () => {
    const packed = JSON.parse(
      execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: path("."), encoding: "utf8" }),
    )
    const files = packed[0].files.map((file: { readonly path: string }) => file.path)
    expect(files).toEqual(expect.arrayContaining(names.map((name) => `dist/Llm/${name}`)))
    for (const name of names) {
      expect(readFileSync(path(`dist/Llm/${name}`), "utf8")).toBe(readFileSync(path(`src/Llm/${name}`), "utf8"))
    }
  })
})
