/** Installs a command line of the npm registry, in an exact version and without its scripts, where a next run finds it. */
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

export interface Cli {
  readonly package: string
  readonly version: string
  readonly command: string
}

const cache = fileURLToPath(new URL("../../../node_modules/.cache/offload-cli/", import.meta.url))

/** The longest that `install` takes, in milliseconds, but for moments. */
export const installMillis = 180_000

const folderOf = ({ package: name, version }: Cli): string => join(cache, `${name.replace("/", "+")}@${version}`)

/** The folder in which its command is once it is installed. */
export const binOf = (cli: Cli): string => join(folderOf(cli), "node_modules", ".bin")

/** By default, npm takes a minute and more to find out that there is no network. */
const options = [
  "--no-audit",
  "--no-fund",
  "--ignore-scripts",
  "--include=optional",
  "--loglevel=error",
  "--fetch-retry-mintimeout=1000",
  "--fetch-retry-maxtimeout=5000",
]

interface Ran {
  readonly ok: boolean
  readonly timedOut: boolean
  readonly output: string
}

const run = (file: string, args: ReadonlyArray<string>, millis: number): Promise<Ran> =>
  new Promise((resolve) =>
    execFile(file, args, { cwd: cache, timeout: millis, killSignal: "SIGKILL" }, (error, stdout, stderr) =>
      resolve({ ok: error === null, timedOut: error?.killed === true, output: `${stdout}${stderr}` || `${error}` }),
    ),
  )

/** Installs beside the place and moves there, so that what is in the place is always whole. */
const fetchInto = async (folder: string, { package: name, version }: Cli): Promise<string | undefined> => {
  const partial = mkdtempSync(`${folder}.`)
  try {
    const npm = await run("npm", ["install", "--prefix", partial, ...options, `${name}@${version}`], installMillis)
    if (npm.timedOut) return `npm took longer than ${installMillis / 1000} s`
    if (!npm.ok) return `npm failed: ${/^npm \S+ code (\S+)/m.exec(npm.output)?.[1] ?? npm.output.trim().slice(0, 200)}`
    if (!existsSync(folder)) renameSync(partial, folder)
    return undefined
  } finally {
    rmSync(partial, { recursive: true, force: true })
  }
}

/** Answers why it is not there to be run, or nothing where it is. */
export const install = async (cli: Cli): Promise<string | undefined> => {
  const folder = folderOf(cli)
  mkdirSync(cache, { recursive: true })
  const failed = existsSync(folder) ? undefined : await fetchInto(folder, cli)
  if (failed !== undefined) return `${cli.package}@${cli.version} cannot be installed: ${failed}`
  const told = await run(join(binOf(cli), cli.command), ["--version"], 20_000)
  if (told.ok && told.output.includes(cli.version)) return undefined
  // Its binary is an optional dependency: npm goes on without it where the download fails. The next run tries again.
  rmSync(folder, { recursive: true, force: true })
  const complaint = /Error: .+/.exec(told.output)?.[0] ?? told.output.trim()
  return `${cli.package}@${cli.version} does not run here: ${complaint.slice(0, 200)}`
}
