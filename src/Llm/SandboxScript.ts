/**
 * The shell of a sandbox: what it does before it is given a command, and the text that gives it one, in which nothing
 * of a job is anything but a quoted word.
 *
 * Descriptor 3 leads to the service: the shell reads there when to begin, and tells there that it is ready, that the
 * command begins (an empty line), and whatever goes wrong before. The command gets 0, 1 and 2, and nothing else.
 */
import { basename } from "node:path"
import type { Limits } from "../OffloadConfig.js"
import type { Argv } from "./Containment.js"
import { limitLines, processesLine } from "./Limits.js"

/** The kernel's limit of one argument or one variable, its end included: `MAX_ARG_STRLEN` of execve(2). */
const maxArgBytes = 131_072

/** The line by which the shell says that it waits for its command. */
export const ready = "ready"

/** A word that a shell does not interpret. */
const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`

/**
 * Closes what the service has open without the mark that closes it at a start: a database of a library, or what the
 * service's own parent left open. dash, Debian's `/bin/sh`, can close no descriptor of two digits; bash can, which reads
 * a file of the user where its input is a socket, if it is not told otherwise.
 */
const closer = `for f in /proc/self/fd/*; do f=\${f##*/}; [ "$f" -le 3 ] || eval "exec $f>&-"; done
export closed=yes
exec /bin/sh -c "$@"`

/** Arguments: this text, the file of the command, then a file of mounts, of a cgroup and a mark, each may be empty. */
const prologue = (isFirst: string, readOnlyLines: ReadonlyArray<string>): string => `${isFirst}
for f in /proc/self/fd/*; do
  case \${f##*/} in
    [0-4]|'*') ;;
    *) [ -z "$closed" ] || { echo "descriptor \${f##*/} would be inherited" >&3; exit 1; }
      bash=$(command -v bash) && exec "$bash" --norc -c ${quote(closer)} closer "$1" sandbox "$@"
      exec /bin/sh -c ${quote(closer)} closer "$1" sandbox "$@";;
  esac
done
unset closed f
trap : TERM
exec 5>&2 2>&3
[ -z "$4" ] || echo 0 >"$4" || exit
[ -z "$3" ] || mount -n -a -T "$3" || exit
${readOnlyLines.map((line) => `${line}\n`).join("")}[ -z "$5" ] || prlimit --pid $$ --rttime="$5" 2>/dev/null
echo ${ready} >&3
read -r _ <&3 || exit
. "$2"`

/** `mount -a` leaves out what seems to be mounted already, as it is where a container covers parts of its `/proc`. */
const readOnlyLine = (path: string): string =>
  `[ ! -w ${quote(path)} ] || mount -n -o bind,ro ${quote(path)} ${quote(path)} || exit`

/** `kill -1` and mounts would be a catastrophe anywhere else, so that it goes on in a namespace of its own alone. */
const isFirst = { namespace: "[ $$ = 1 ] || exit", group: ":" }

export interface ShellOptions {
  readonly mode: keyof typeof isFirst
  readonly launchFile: string
  readonly mountsFile: string | null
  readonly cgroupFile: string | null
  readonly mark: bigint | null
  /** Files and folders that must be read-only before the command begins. */
  readonly readOnly: ReadonlyArray<string>
}

/** The shell that waits for a command. */
export const shellOf = ({ cgroupFile, launchFile, mark, mode, mountsFile, readOnly }: ShellOptions): Argv => {
  const script = prologue(isFirst[mode], readOnly.map(readOnlyLine))
  const files = [launchFile, mountsFile ?? "", cgroupFile ?? ""]
  return ["/bin/sh", "-c", script, "sandbox", script, ...files, mark?.toString() ?? ""]
}

/** How a group learns that its service has ended. */
interface Watch {
  /** The file that kills the cgroup; `null` where there is none. */
  readonly killFile: string | null
  /** Whether the parent of the shell kills everything when it is asked to. */
  readonly hasReaper: boolean
}

/**
 * In a group: a process that reads until the service has ended, however it did, and then ends the group, and the cgroup
 * where there is one. It holds none of the command's pipes.
 */
const watcher = ({ hasReaper, killFile }: Watch): string => {
  const end = hasReaper ? "kill -USR1 $PPID || kill -KILL 0" : "kill -KILL 0"
  const endAll = killFile === null ? end : `echo 1 >${quote(killFile)}; ${end}`
  return `(trap '' TERM; exec 0</dev/null 1>&- 5>&-; read -r _ <&3; ${endAll}) 2>/dev/null &`
}

export interface Begin {
  readonly argv: Argv
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly limits: Limits
  /** The most processes and threads, where it is the shell that limits them. */
  readonly processes: number | null
  /** What the command is started by, to give up privileges. */
  readonly drop: ReadonlyArray<string>
  /** `null`: the kernel ends the sandbox with the service. */
  readonly watch: Watch | null
}

/** A shell has no variable of another name, and would pass none on. */
const isName = (name: string): boolean => /^[A-Za-z_]\w*$/.test(name)

/** The text of the file that the shell reads when it is told to begin. */
export const beginOf = ({ argv, cwd, drop, env, limits, processes, watch }: Begin): string => {
  const variables = Object.entries(env).flatMap(([name, value]) => (isName(name) ? [`${name}=${quote(value)}`] : []))
  return [
    ...(watch === null ? [] : [watcher(watch)]),
    "(",
    `cd -P -- ${quote(cwd)} || exit`,
    ...limitLines(limits),
    ...(processes === null ? [] : [processesLine(processes)]),
    "unset LC_ALL OLDPWD SHLVL _",
    `export ${variables.join(" ")}`,
    "exec 2>&5 5>&-",
    "echo >&3",
    `exec ${[...drop, ...argv].map(quote).join(" ")} 3>&-`,
    ")",
    "exit $?",
    "",
  ].join("\n")
}

/** Why the system would not take a command, as the code of an error. */
export const refusalOf = ({ argv, env }: Pick<Begin, "argv" | "env">): string | null => {
  const words = [...argv, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)]
  if (words.some((word) => word.includes("\0"))) return "EINVAL"
  return words.some((word) => Buffer.byteLength(word) >= maxArgBytes) ? "E2BIG" : null
}

/** A path in fstab(5), whose fields end at a blank. */
const field = (path: string): string =>
  path.replace(/[ \t\n\\#]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, "0")}`)

export interface Mounts {
  /** The folder of the sandbox, which takes the place of the folder that it is in. */
  readonly outer: string
  readonly root: string
  /** Folders and files that the command must not see. */
  readonly hiddenFolders: ReadonlyArray<string>
  readonly hiddenFiles: ReadonlyArray<string>
  /** Files and folders that become read-only. */
  readonly readOnly: ReadonlyArray<string>
}

/** What a sandbox mounts, in the format of fstab(5): one call of `mount` does all of it. */
export const mountsOf = ({ hiddenFiles, hiddenFolders, outer, readOnly, root }: Mounts): string =>
  [
    // A name that is not used twice: `mount -a` leaves out what is mounted already, by its name and its place.
    `${field(basename(outer))} /dev/shm tmpfs nosuid,nodev,mode=1777`,
    `${field(outer)} ${field(root)} none bind`,
    // What stands there now is this sandbox alone.
    ...hiddenFolders.map((folder) => `${field(root)} ${field(folder)} none bind`),
    ...hiddenFiles.map((file) => `/dev/null ${field(file)} none bind`),
    ...readOnly.map((path) => `${field(path)} ${field(path)} none bind,ro`),
    "",
  ].join("\n")
