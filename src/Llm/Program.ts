/** The programs of this package that are processes of their own: `demo-model.ts`, `watchdog-process.ts`. */
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"

/** The path of a program of this folder, however this file was loaded: compiled, in the bundle, or from its source. */
export const program = (name: string): string => {
  const files = [`./${name}.js`, `../Llm/${name}.js`, `../../dist/Llm/${name}.js`].map((place) =>
    fileURLToPath(new URL(place, import.meta.url)),
  )
  return files.find(existsSync) ?? files[0] ?? ""
}
