/** The programs of this package that are processes of their own: `demo-model.ts`, `launcher.pl`, `watchdog-process.ts`. */
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"

/** The path of a program of this folder, by its file's name, however this file was loaded: compiled, in the bundle, or from its source. */
export const program = (name: string): string => {
  const files = [`./${name}`, `../Llm/${name}`, `../../dist/Llm/${name}`].map((place) =>
    fileURLToPath(new URL(place, import.meta.url)),
  )
  return files.find(existsSync) ?? files[0] ?? ""
}
