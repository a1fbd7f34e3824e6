/**
 * `effect-offload audit`: what each error of a program means for its jobs, from the program's own types.
 * It reads the program and runs nothing of it.
 */
import { resolve } from "node:path"
import { parseArgs } from "node:util"
import { audit } from "./Audit/Audit.js"
import { CannotAudit, open, type ParsedFiles } from "./Audit/Project.js"
import { type Format, formats, render } from "./Audit/Render.js"

export { audit, open, render }

const usage = `Usage: effect-offload audit [-p <tsconfig>] [--format text|json|markdown]

Prints every place of a program that settles work: the errors of the work, and what the handler of each decides.
It needs TypeScript in the program's own node_modules, and reads nothing but its sources.

  -p, --project <path>  the program's tsconfig, or the folder of its tsconfig.json; the current folder by default
      --format <name>   text (the default), json or markdown
  -h, --help            this text

Places that may hold forkDaemon, runFork, orDie, ignore or catchAllCause, and errors that nothing has to answer, stand
in audit.json beside the tsconfig: [{"file", "word" or "error", "reason", "times"?}].

Exit code: 0 without a fault, 1 with one, 2 where the program could not be audited.
`

export interface Answer {
  readonly exitCode: 0 | 1 | 2
  readonly stdout: string
  readonly stderr: string
}

/** Does what a command line asks for, in a folder. Several runs in one process may share the files that they parse. */
export const run = (args: ReadonlyArray<string>, folder: string, parsedFiles?: ParsedFiles): Answer => {
  const asked = read(args)
  if (typeof asked === "string") return { exitCode: 2, stdout: "", stderr: `${asked}\n\n${usage}` }
  if (asked.help) return { exitCode: 0, stdout: usage, stderr: "" }
  try {
    const report = audit(open(resolve(folder, asked.project), parsedFiles))
    return { exitCode: report.faults.length === 0 ? 0 : 1, stdout: render(report, asked.format), stderr: "" }
  } catch (error) {
    // A bug of the audit must not look like a fault of the program, which is 1.
    const said = error instanceof CannotAudit ? error.message : error instanceof Error ? error.stack : String(error)
    return { exitCode: 2, stdout: "", stderr: `${said}\n` }
  }
}

/** What is asked for, or what is wrong with how. */
const read = (args: ReadonlyArray<string>) => {
  try {
    const { positionals, values } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        project: { type: "string", short: "p", default: "." },
        format: { type: "string", default: "text" },
        help: { type: "boolean", short: "h", default: false },
      },
    })
    const { format, help, project } = values
    if (help) return { help, project, format: "text" as const }
    if (positionals.length !== 1 || positionals[0] !== "audit") return "The command is `audit`."
    return isFormat(format) ? { help, project, format } : `There is no format '${format}'.`
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

const isFormat = (name: string): name is Format => formats.some((format) => format === name)
