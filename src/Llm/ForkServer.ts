/**
 * A fork server: the first process of a PID namespace, which starts one command after another in it. To make a
 * namespace takes several times what a small command takes, and a small process forks faster than Node does.
 *
 * It is a shell, which reads what to do from its standard input and tells on its standard output what happened: a line
 * when it is ready, an empty one when a command begins, its exit code when nothing of it is left. Each command has
 * pipes of its own: FIFOs, opened anew each time.
 *
 * - The kernel ends the namespace with its first process, that one with `unshare` (`--kill-child`), and `unshare` with
 *   the service (`--pdeathsig`). Nothing is sent before it is ready: a shell whose service went before `setpriv` took
 *   effect finds its standard input at its end, and ends.
 * - Between two commands it kills all processes but itself. The kernel leaves none out: what forks meanwhile has the
 *   signal pending, and forks in vain. It goes on until there is no other process, the dead ones included.
 * - Process 1 gets no signal that it has no handler for: `trap` lets it outlive a SIGTERM of the group, so that a
 *   command has its grace. A handler is not inherited.
 */
import { accessSync, closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs"
import { Socket } from "node:net"
import { join } from "node:path"
import type { Argv, Exit, Launch, Started } from "./Containment.js"
import { begin, prologue, refusalOf } from "./ForkScript.js"
import { codeOf, signalGroup, spawnGroup } from "./Spawn.js"

/** This process's ends of the three pipes, none of which waits for the other end. */
const open = (folder: string) => {
  const descriptors: Array<number> = []
  const of = (name: string, flag: number) => {
    const descriptor = openSync(join(folder, name), flag | constants.O_NONBLOCK)
    descriptors.push(descriptor)
    return descriptor
  }
  try {
    // Open for reading too, so that it is there before its reader is. It has to be closed where nobody reads it.
    const stdin = of("0", constants.O_RDWR)
    const stdout = of("1", constants.O_RDONLY)
    const stderr = of("2", constants.O_RDONLY)
    return {
      stdin: new Socket({ fd: stdin, readable: false, writable: true }),
      stdout: new Socket({ fd: stdout, readable: true, writable: false }),
      stderr: new Socket({ fd: stderr, readable: true, writable: false }),
    }
  } catch (error) {
    for (const descriptor of descriptors) closeSync(descriptor)
    throw error
  }
}

export interface ForkServer {
  /** Resolves to `null` when it takes commands, to a code where it never will. */
  readonly ready: Promise<string | null>
  /** Resolves when nothing of it is left. */
  readonly gone: Promise<unknown>
  /** Whether it can take a command, once it is ready and has none. */
  readonly lives: () => boolean
  /** Starts a command; `release` is called when it can take the next one, or is gone. */
  readonly launch: (launch: Launch, release: () => void) => Started | Promise<string>
  readonly kill: () => void
}

/** The command that is running. */
interface Running {
  readonly onBegin: () => void
  readonly onExit: (exit: Exit) => void
}

export interface Options {
  /** The command that runs a shell as the first process of a namespace. */
  readonly wrap: (argv: Argv) => Argv
  readonly env: Readonly<Record<string, string>>
  /** The beginning of the path of its folder, which holds its FIFOs. */
  readonly prefix: string
}

/** Starts one; or resolves to the code with which the system refuses it. */
export const start = (
  { env, prefix, wrap }: Options,
  onStartError: Launch["onError"],
): ForkServer | Promise<string> => {
  let folder: string
  try {
    folder = mkdtempSync(prefix)
  } catch (error) {
    return Promise.resolve(codeOf(error))
  }
  const removeFolder = (): void => {
    try {
      rmSync(folder, { recursive: true, force: true })
    } catch {
      // The next start of the service sweeps it.
    }
  }
  const spawned = spawnGroup(wrap(["/bin/sh"]), { cwd: "/", env, pipes: 3 })
  if (spawned instanceof Promise) {
    removeFolder()
    return spawned
  }
  const { leader, stderr, stdin, stdout } = spawned

  let killed = false
  const runs = (): boolean => leader.exitCode === null && leader.signalCode === null
  const kill = (): void => {
    killed = true
    // Once it has ended, its id may be another's.
    if (runs()) signalGroup(leader, "SIGKILL")
  }
  let running: Running | null = null
  const exit = (exit: Exit): void => {
    running?.onExit(exit)
    running = null
  }

  let onError = onStartError
  stderr.on("data", (chunk: Uint8Array) => onError(chunk))
  // Not `exit`: it is the last of the shell's own processes that closes these pipes.
  const gone = new Promise<void>((resolve) =>
    leader.once("close", (code, signal) => {
      removeFolder()
      exit([code, signal])
      resolve()
    }),
  )

  const ready = new Promise<string | null>((resolve) => {
    void gone.then(() => resolve("ECONTAIN"))
    let rest = ""
    stdout.setEncoding("latin1").on("data", (text: string) => {
      const lines = (rest + text).split("\n")
      rest = lines.pop() ?? ""
      for (const line of lines) {
        if (line === "ready") resolve(null)
        else if (line !== "") {
          const code = Number(line)
          // The signal may have been for the whole group, and what is outside of the namespace may die a moment later.
          if (code > 128) kill()
          exit([code, null])
        } else {
          // From here on it is the shell's own remarks ("Terminated").
          onError = () => {}
          running?.onBegin()
        }
      }
    })
  })
  stdin.write(prologue(folder))

  return {
    ready,
    gone,
    lives: () => !killed && runs(),
    kill,
    launch: (launch, release) => {
      const refuse = (code: string): Promise<string> => {
        release()
        return Promise.resolve(code)
      }
      const text = begin(launch)
      const refusal = refusalOf(launch, text)
      if (refusal !== null) return refuse(refusal)
      let pipes: ReturnType<typeof open>
      try {
        accessSync(`${launch.cwd}/.`, constants.X_OK)
      } catch (error) {
        return refuse(codeOf(error))
      }
      try {
        pipes = open(folder)
      } catch (error) {
        // Somebody may have cleaned up its folder: another one has another.
        kill()
        return refuse(codeOf(error))
      }
      const all = [pipes.stdin, pipes.stdout, pipes.stderr]
      for (const pipe of all) pipe.on("error", () => {})

      onError = launch.onError
      let closed = false
      const exited = new Promise<Exit>((resolve) => {
        running = {
          onBegin: () => {
            launch.onBegin()
            pipes.stdin.write(launch.stdin, () => pipes.stdin.destroy())
          },
          onExit: resolve,
        }
      })
      const own = running
      stdin.write(text)
      return {
        stdout: pipes.stdout,
        stderr: pipes.stderr,
        pipes: [pipes.stdout, pipes.stderr],
        exited,
        // Afterwards, the group is another command's.
        signal: (signal) => {
          if (!closed) signalGroup(leader, signal)
        },
        close: () => {
          if (closed) return
          closed = true
          for (const pipe of all) pipe.destroy()
          if (running === own) kill()
          release()
        },
      }
    },
  }
}
