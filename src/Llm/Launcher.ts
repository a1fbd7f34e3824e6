/**
 * The launcher of a service (`launcher.pl`): the process of which each sandbox is a fork. It is started when it is first
 * needed, ends with the service, and is started again where somebody else has ended it.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { Socket } from "node:net"
import { constants } from "node:os"
import type { Readable, Writable } from "node:stream"
import { setTimeout as sleep } from "node:timers/promises"
import { Effect, type Scope } from "effect"
import { type Exit, isRefusal, type Refusal } from "./Containment.js"
import { find } from "./Executable.js"
import { frame, makeLines } from "./Frame.js"
import { attend, type Leader, type Making, refusalOf } from "./Leader.js"
import { program } from "./Program.js"
import type { Report } from "./Report.js"
import type { Scratch } from "./Scratch.js"
import { make as makeSockets } from "./Sockets.js"
import { codeOf } from "./SystemCode.js"
import { makeTail } from "./Transcript.js"

/** How long what is being ended is waited for when the service closes. */
const closeMillis = 1000

/** How much of its complaints is kept for the log. */
const stderrBytes = 2048

/** What a machine lacks where it has no launcher, for the person who reads it. */
export const noPerl = "the command 'perl' is not on PATH: install the package perl-base (Debian, Ubuntu) or perl"

/** Its type, what is mounted, and where. */
export type Mount = readonly [type: "tmpfs" | "bind" | "readonly", from: string, to: string]

/** A sandbox to be made. */
export interface Order {
  /** `bare`: a group whose leader adopts nothing. */
  readonly kind: "namespace" | "user-namespace" | "group" | "bare"
  /** The name of its folders. */
  readonly name: string
  /** `uid gid group…` of another user; empty: the service's own. */
  readonly user: string
  /** A limit that says whose it is: see `Marker.ts`. */
  readonly mark: bigint
  /** The files of its control group; empty: none. */
  readonly joinFile: string
  readonly killFile: string
  /** In their order. */
  readonly mounts: ReadonlyArray<Mount>
}

/** What the launcher of this machine can do. */
export interface Abilities {
  /** Whether the leader of a group adopts, and ends, what loses its parent in it. */
  readonly adopts: boolean
  /** Whether limits can be set. */
  readonly limits: boolean
}

/** How it was ended by somebody else. */
export interface Lost {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stderr: string
}

export interface Launcher {
  /** Starts it if it does not run; resolves to what it can do, or to why it cannot be started. */
  readonly open: () => Promise<Abilities | Refusal>
  /** Makes a sandbox; resolves when it waits for its command, or to why the machine does not give it. */
  readonly make: (order: Order) => Promise<Leader | Refusal>
  /** Ends it, and every sandbox; resolves when it is gone. Later calls wait for the first. */
  readonly close: () => Promise<void>
}

export interface Options {
  /** Its socket is in the root of this one, as the folders of its sandboxes are. */
  readonly scratch: Scratch
  /** Whose it is, as `Marker.identify` says. */
  readonly owner: string
  readonly onLost: (lost: Lost) => void
}

interface Running {
  readonly child: ChildProcess
  readonly hello: Promise<Abilities | Refusal>
  readonly send: (words: ReadonlyArray<string>) => void
  readonly end: () => Promise<void>
}

interface Spawned {
  readonly child: ChildProcess
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
}

/** Starts the program at once; or resolves to why the system refuses it, which Node throws or tells by an event. */
const spawnPerl = (perl: string): Spawned | Promise<Refusal> => {
  const refusal = (error: unknown): Refusal => ({
    code: codeOf(error),
    detail: `the machine starts no process (${codeOf(error)})`,
  })
  try {
    const child: ChildProcess = spawn(perl, [program("launcher.pl")], {
      cwd: "/",
      env: { LC_ALL: "C" },
      // A session of its own: what stops or ends the service from a terminal does not reach it.
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    })
    const refused = new Promise<Refusal>((resolve) => child.on("error", (error) => resolve(refusal(error))))
    const { stderr, stdin, stdout } = child
    // Node makes no pipes where no descriptors are left, whatever its types say.
    if (child.pid === undefined || stdin === null || stdout === null || stderr === null) return refused
    // Told by its exit.
    for (const pipe of [stdin, stdout, stderr]) pipe.on("error", () => {})
    return { child, stdin, stdout, stderr }
  } catch (error) {
    return Promise.resolve(refusal(error))
  }
}

const isSignal = (name: string): name is NodeJS.Signals => name in constants.signals

const signals: ReadonlyMap<number, NodeJS.Signals> = new Map(
  Object.entries(constants.signals).flatMap(([name, number]) => (isSignal(name) ? [[number, name] as const] : [])),
)

/** What waitpid(2) tells of a process. */
const exitOf = (status: number): Exit => {
  const signal = signals.get(status & 127)
  return signal === undefined ? [status >> 8, null] : [null, signal]
}

export const make = ({ onLost, owner, scratch }: Options): Launcher => {
  const folder = scratch.root
  const sockets = makeSockets(scratch, owner)
  /** The sandboxes that are not gone. */
  const known = new Map<string, Making>()
  let running: Running | undefined
  let isClosed = false
  let sequence = 0
  let closing: Promise<void> | undefined

  const takeLine = (line: string, greet: (abilities: Abilities) => void): void => {
    const [what, first = "", second = "", ...words] = line.split(" ")
    if (what === "hello") {
      greet({ adopts: first === "1", limits: second === "1" })
      return
    }
    const sandbox = known.get(first)
    if (what === "ended") sandbox?.end(exitOf(Number(second)))
    else if (what === "refused") sandbox?.refuse(refusalOf(Number(second), words.join(" ")))
  }

  const lose = (lost: Lost): void => {
    running = undefined
    // The kernel ends them with it, or their own leaders do.
    for (const sandbox of known.values()) sandbox.lose()
    if (!isClosed) onLost(lost)
  }

  /** Sandboxes keep this process going; a launcher without one does not. */
  const rest = (child: ChildProcess): void => {
    if (known.size === 0) child.unref()
  }

  const follow = ({ child, stderr, stdin, stdout }: Spawned): Running => {
    const tail = makeTail(stderrBytes)
    stderr.on("data", tail.push)
    const lost = new Promise<Refusal>((resolve) =>
      child.once("exit", (code, signal) => {
        lose({ code, signal, stderr: tail.text() })
        resolve({ code: "ECONTAIN", detail: `the launcher of sandboxes ended: ${tail.text()}` })
      }),
    )
    const hello = new Promise<Abilities>((greet) =>
      stdout.on(
        "data",
        makeLines((line) => takeLine(line, greet)),
      ),
    )
    const greeted = Promise.race([hello, lost])
    void greeted.then(() => rest(child))
    for (const pipe of [stdin, stdout, stderr]) if (pipe instanceof Socket) pipe.unref()
    return {
      child,
      hello: greeted,
      send: (words) => {
        stdin.write(frame(words))
        // A command of the same user may have stopped it.
        child.kill("SIGCONT")
      },
      end: async () => {
        stdin.end()
        child.ref()
        const timer = setTimeout(() => child.kill("SIGKILL"), closeMillis)
        await lost
        clearTimeout(timer)
      },
    }
  }

  const ensure = (): Running | Refusal | Promise<Refusal> => {
    if (isClosed) return { code: "ECANCELED", detail: "the service is ending" }
    if (running !== undefined) return running
    const perl = find("perl")
    if (perl === null) return { code: "ENOENT", detail: noPerl }
    const spawned = spawnPerl(perl)
    if (spawned instanceof Promise) return spawned
    running = follow(spawned)
    return running
  }

  const close = async (): Promise<void> => {
    isClosed = true
    // Their ends are being told, where they have not been told already.
    const gone = Promise.all([...known.values()].map((sandbox) => sandbox.gone))
    await Promise.race([gone, sleep(closeMillis, undefined, { ref: false })])
    await running?.end()
    await sockets.close()
  }

  return {
    open: async () => {
      const found = await ensure()
      return isRefusal(found) ? found : found.hello
    },
    make: async ({ joinFile, killFile, kind, mark, mounts, name, user }) => {
      const unusable = await sockets.listen()
      if (unusable !== null) return unusable
      const found = await ensure()
      if (isRefusal(found)) return found
      const id = String(++sequence)
      const sandbox = attend(id, sockets, found.send)
      known.set(id, sandbox)
      void sandbox.gone.then(() => {
        known.delete(id)
        if (running !== undefined) rest(running.child)
      })
      found.child.ref()
      const place = [sandbox.token, folder, sockets.name, name, user]
      found.send(["make", id, ...place, kind, String(mark), joinFile, killFile, ...mounts.flat()])
      return sandbox.made
    },
    close: () => {
      closing ??= close()
      return closing
    },
  }
}

/** One for as long as the scope lasts; where it is lost, the log says so. */
export const acquire = (
  options: Omit<Options, "onLost">,
  report: Report,
): Effect.Effect<Launcher, never, Scope.Scope> => {
  const onLost = ({ code, signal, stderr }: Lost): void =>
    report(
      Effect.logWarning(
        "the launcher of sandboxes was ended by somebody else, and the attempts that ran with it: it is started again for the next one",
      ).pipe(Effect.annotateLogs({ code, signal, stderr })),
    )
  return Effect.acquireRelease(
    Effect.sync(() => make({ ...options, onLost })),
    ({ close }) => Effect.promise(close),
  )
}
