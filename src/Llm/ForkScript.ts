/** What a fork server is told: lines of a shell, in which nothing of a job is anything but a quoted word. */
import { resolve } from "node:path"
import type { Launch } from "./Containment.js"

/** What the kernel takes as one argument or one variable, its end included: `MAX_ARG_STRLEN` of execve(2). */
const maxArgBytes = 131_072

/** A word that a shell does not interpret. */
const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`

/** `kill -1` would be a catastrophe anywhere else, so that it goes on in a namespace of its own alone. */
export const prologue = (folder: string): string => `[ $$ = 1 ] || exit
trap : TERM
told() { while kill -KILL -1; do : & wait; done 2>/dev/null; echo "$1"; }
cd ${quote(folder)} && mkfifo -m 600 0 1 2 && echo ready || exit
`

/** A shell has no variable of another name, and would pass none on. */
const isName = (name: string): boolean => /^[A-Za-z_]\w*$/.test(name)

/** Starts a command in a subshell, which it replaces. Its pipes are there when it says that it begins. */
export const begin = ({ argv, cwd, env }: Launch): string => {
  const variables = Object.entries(env).flatMap(([name, value]) => (isName(name) ? [`${name}=${quote(value)}`] : []))
  const enter = `cd -P -- ${quote(resolve(cwd))} && unset OLDPWD && export ${variables.join(" ")}`
  const start = `echo >&3 && exec ${argv.map(quote).join(" ")} 3>&-`
  return `(exec 0<0 3>&1 1>1 2>2; ${enter} && ${start}); told $?\n`
}

/** Why the system would not take it, as the code of an error; `text` is what `begin` makes of it. */
export const refusalOf = ({ argv, env }: Launch, text: string): string | null => {
  if (text.includes("\0")) return "EINVAL"
  const words = [...argv, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)]
  return words.some((word) => Buffer.byteLength(word) >= maxArgBytes) ? "E2BIG" : null
}
