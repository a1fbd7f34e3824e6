/**
 * Finds a command as a shell would, without one.
 */
import { accessSync, constants, statSync } from "node:fs"
import { delimiter, join, resolve } from "node:path"

const isExecutable = (file: string): boolean => {
  try {
    accessSync(file, constants.X_OK)
    return statSync(file).isFile()
  } catch {
    return false
  }
}

/** The absolute path of a command: itself if it has a slash, else the first of that name on PATH; `null` if none. */
export const find = (command: string): string | null => {
  if (command === "") return null
  const folders = (process.env.PATH ?? "").split(delimiter)
  const files = command.includes("/") ? [resolve(command)] : folders.map((folder) => join(resolve(folder), command))
  return files.find(isExecutable) ?? null
}
