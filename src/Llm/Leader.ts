/** The leader of one sandbox, as the service knows it: its streams, what it tells of itself, and how it ended. */
import { closeSync, openSync } from "node:fs"
import type { Socket } from "node:net"
import type { Exit, Refusal } from "./Containment.js"
import { frame, makeLines } from "./Frame.js"
import type { Role, Sockets } from "./Sockets.js"
import { codeOf, nameOf } from "./SystemCode.js"

/** The longest that a sandbox may take to be ready. */
const readyMillis = 10_000

/** How long one whose launcher is lost may take to end, in milliseconds. */
const lostMillis = 500

export interface Streams {
  readonly stdin: Socket
  readonly stdout: Socket
  readonly stderr: Socket
  readonly control: Socket
}

/** What a command is started with. */
export interface Start {
  readonly argv: ReadonlyArray<string>
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  /** `name=number …` */
  readonly limits: string
  readonly onBegin: () => void
}

export interface Leader {
  readonly streams: Streams
  /** To be called once. */
  readonly start: (start: Start) => void
  /** How the command ended, when nothing of it is left; or how its leader did, where this ended first. */
  readonly exited: Promise<Exit>
  /** Resolves when the leader itself is gone. */
  readonly gone: Promise<void>
  readonly isGone: () => boolean
  /** Whether its launcher was lost: then nobody knows whether something of it is left. */
  readonly isLost: () => boolean
  /** After the exit: why the command did not begin; `null`: it did. */
  readonly failure: () => Refusal | null
  readonly signal: (signal: NodeJS.Signals, target: "leader" | "group") => void
}

/** One that is being made. */
export interface Making {
  readonly token: string
  /** Resolves when it waits for its command, or to why the machine does not give it. */
  readonly made: Promise<Leader | Refusal>
  /** Resolves when its leader is gone. */
  readonly gone: Promise<void>
  /** Its leader is gone. */
  readonly end: (exit: Exit) => void
  /** Its launcher is gone, so that nobody tells of its end: it is near. */
  readonly lose: () => void
  /** There is no process of it. */
  readonly refuse: (refusal: Refusal) => void
}

export const tooLarge: Refusal = {
  code: "E2BIG",
  detail: "the system takes no such argument or variable (E2BIG)",
}

/** The codes by which the system says that it has no room. */
const noRoom: ReadonlyArray<string> = ["EAGAIN", "ENOMEM", "ENOSPC", "EMFILE", "ENFILE", "EUSERS", "ETXTBSY"]

const noRoomFor = (code: string): Refusal => ({
  code,
  detail: `the machine has no room for its processes (${code})`,
})

/** What was refused, by the system's number and the words of `launcher.pl` for what was tried. */
export const refusalOf = (number: number, words: string, cwd = ""): Refusal => {
  const code = nameOf(number)
  if (code === null) return { code: "ECONTAIN", detail: `its sandbox could not be made: ${words}` }
  if (code === "E2BIG") return tooLarge
  if (words === "folder") return { code, detail: `its working folder '${cwd}' cannot be used (${code})` }
  if (words === "scratch") return { code, detail: `the folders of attempts cannot be made (${code})` }
  if (noRoom.includes(code)) return noRoomFor(code)
  if (words === "command") return { code, detail: `the system does not execute it (${code})`, isCommand: true }
  return { code, detail: `its sandbox could not be made: ${words} (${code})` }
}

/** Why a sandbox ended that told nothing: the service could not take its streams, or it was killed. */
const silent = (): Refusal => {
  try {
    closeSync(openSync("/dev/null", "r"))
    return { code: "ECONTAIN", detail: "its sandbox ended before its command began" }
  } catch (error) {
    return noRoomFor(codeOf(error))
  }
}

/** A promise with the function that resolves it. */
const deferred = <A>() => {
  let resolve = (_: A): void => {}
  const promise = new Promise<A>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}

/** What one has told so far on its control stream. */
const makeTold = (onReady: () => void) => {
  const ended = deferred<Exit>()
  let refusal: Refusal | null = null
  let started: Start | undefined
  let begun = false

  const take = (line: string): void => {
    const [what, first = "", ...words] = line.split(" ")
    if (what === "ready") onReady()
    else if (what === "failed") refusal = refusalOf(Number(first), words.join(" "), started?.cwd)
    else if (what === "ended") ended.resolve([Number(first), null])
    else if (what === "begin") {
      begun = true
      started?.onBegin()
    }
  }

  return {
    ended,
    read: makeLines(take),
    start: (control: Socket, start: Start): void => {
      started = start
      const { argv, cwd, env, limits } = start
      const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`)
      control.write(frame([cwd, limits, String(argv.length), ...argv, ...variables]))
    },
    failure: (): Refusal | null => refusal ?? (begun ? null : silent()),
  }
}

/** Waits for the streams of a sandbox, and for its word that it is ready. `send`: to the launcher. */
export const attend = (id: string, sockets: Sockets, send: (words: ReadonlyArray<string>) => void): Making => {
  const made = deferred<Leader | Refusal>()
  const gone = deferred<void>()
  const found: Partial<Record<Role, Socket>> = {}
  let isReady = false
  let isSettled = false
  let isGone = false
  let isLost = false

  const signal: Leader["signal"] = (name, target) => {
    if (!isGone) send(["signal", id, name.slice("SIG".length), target])
  }
  const settle = (result: Leader | Refusal): void => {
    isSettled = true
    clearTimeout(timer)
    forget()
    made.resolve(result)
  }
  const refuse = (refusal: Refusal): void => {
    for (const socket of Object.values(found)) socket.destroy()
    settle(refusal)
  }
  const conclude = (): void => {
    const { "0": stdin, "1": stdout, "2": stderr, c: control } = found
    if (!isReady || !stdin || !stdout || !stderr || !control) return
    settle({
      streams: { stdin, stdout, stderr, control },
      start: (start) => told.start(control, start),
      exited: told.ended.promise,
      gone: gone.promise,
      isGone: () => isGone,
      isLost: () => isLost,
      failure: told.failure,
      signal,
    })
  }
  const told = makeTold(() => {
    isReady = true
    conclude()
  })
  const { forget, token } = sockets.expect((role, socket, rest) => {
    found[role] = socket
    if (role === "c") {
      socket.on("data", told.read)
      told.read(rest)
    } else socket.pause()
    conclude()
  })
  const timer = setTimeout(() => {
    refuse({ code: "ETIMEDOUT", detail: `its sandbox was not ready within ${readyMillis} ms` })
    signal("SIGKILL", "group")
  }, readyMillis)

  const close = (): void => {
    isGone = true
    gone.resolve()
  }
  const end: Making["end"] = (exit) => {
    close()
    told.ended.resolve(exit)
    if (!isSettled) refuse(told.failure() ?? silent())
  }
  return {
    token,
    made: made.promise,
    gone: gone.promise,
    end,
    lose: () => {
      isLost = true
      isGone = true
      const timer = setTimeout(end, lostMillis, [null, "SIGKILL"])
      found.c?.once("end", () => {
        clearTimeout(timer)
        end([null, "SIGKILL"])
      })
    },
    refuse: (refusal) => {
      close()
      refuse(refusal)
    },
  }
}
