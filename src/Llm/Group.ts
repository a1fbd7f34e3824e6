/** A process group for each command: what every machine allows. */
import { Readable } from "node:stream"
import type { Argv, Containment, Exit, Place } from "./Containment.js"
import { signalGroup, spawnGroup } from "./Spawn.js"

/**
 * The parent of the command, and the leader of its group. A constant: the command and its arguments are positional
 * parameters, which a shell does not interpret.
 *
 * - `trap` lets it outlive a SIGTERM of the group, so that it can tell the command's exit. A handler is not inherited.
 * - The watcher reads from descriptor 3, whose other end the service holds, until the service is gone, however it
 *   went, and kills the group. It holds none of the command's pipes.
 * - A line on descriptor 3 says that the command starts now.
 * - The shell's own remarks ("Terminated") stay out of the command's standard error.
 */
const script = `trap : TERM
exec 5>&2 2>/dev/null
(trap '' TERM; exec 0</dev/null 1>&- 5>&-; read _ <&3; kill -KILL 0) &
echo >&3
(exec 2>&5 3<&- 5>&-; exec "$@")
exit $?`

const wrap = (argv: Argv): Argv => ["/bin/sh", "-c", script, "offload", ...argv]

const place: Place = {
  isUsed: false,
  launch: ({ argv, cwd, env, onBegin, stdin }) => {
    const spawned = spawnGroup(wrap(argv), { cwd, env, pipes: 4 })
    if (spawned instanceof Promise) return spawned
    const { leader, stderr, stdout } = spawned
    const pipes = [stdout, stderr]
    const liveness = leader.stdio[3]
    if (liveness instanceof Readable) {
      pipes.push(liveness.on("error", () => {}).once("data", onBegin))
    }
    spawned.stdin.end(stdin)
    return {
      stdout,
      stderr,
      pipes,
      exited: new Promise<Exit>((resolve) => leader.once("exit", (code, signal) => resolve([code, signal]))),
      signal: (signal) => signalGroup(leader, signal),
      close: () => {
        for (const pipe of leader.stdio) pipe?.destroy()
      },
    }
  },
  release: () => {},
}

export const group: Containment = { mode: "group", prepare: async () => place, close: async () => {} }
