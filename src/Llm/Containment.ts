/**
 * How the processes of an attempt are held together, so that all of them can be ended, and end with the service.
 *
 * - `namespace` (Linux): a PID namespace. Nothing gets out of it, and the kernel ends it with its first process.
 * - `group`: a process group. A process may leave it with `setsid`; it is then found by its cookie.
 */
export type Mode = "namespace" | "group"

/** A command and its arguments. */
export type Argv = readonly [command: string, ...args: Array<string>]

export interface Containment {
  readonly mode: Mode
  /** The command that runs `argv` contained. Its file descriptor 3 must be a socket whose other end the service holds. */
  readonly wrap: (argv: Argv) => Argv
}

/**
 * The parent of the command, and process 1 of its namespace. A constant: the command and its arguments are positional
 * parameters, which a shell does not interpret.
 *
 * - Process 1 of a namespace gets no signal that it has no handler for, and the namespace ends with it: `trap` lets it
 *   outlive a SIGTERM of the group, so that the command has its grace. A handler is not inherited by the command.
 * - The watcher reads from descriptor 3 until the service is gone, however it went, and kills the group. It covers
 *   plain groups, and the moment before `setpriv` takes effect. It holds none of the command's pipes.
 * - A line on descriptor 3 says that the command starts now: up to here there is nothing to end gracefully.
 * - The shell's own remarks ("Terminated") stay out of the command's standard error.
 */
const init = `trap : TERM
exec 5>&2 2>/dev/null
(trap '' TERM; exec 0</dev/null 1>&- 5>&-; read _ <&3; kill -KILL 0) &
echo >&3
(exec 2>&5 3<&- 5>&-; exec "$@")
exit $?`

const start = (argv: Argv): Argv => ["/bin/sh", "-c", init, "offload", ...argv]

/** What every machine allows. */
export const group: Containment = { mode: "group", wrap: start }

/** `--kill-child` ends the namespace with `unshare`, and `--pdeathsig` ends `unshare` with the service. */
const namespace = (privileges: ReadonlyArray<string>): Containment => ({
  mode: "namespace",
  wrap: (argv) => [
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    ...privileges,
    "--pid",
    "--fork",
    "--kill-child=KILL",
    "--mount-proc",
    ...start(argv),
  ],
})

/** Root needs no user namespace; whoever else may have one keeps their own name in it. */
export const namespaces: ReadonlyArray<Containment> = [
  ...(process.getuid?.() === 0 ? [namespace([])] : []),
  namespace(["--user", "--map-current-user"]),
]
