/**
 * Puts what the page `/docs` is made of beside the built program: two files of Swagger UI, which is no dependency of
 * the installed package. Part of `npm run build`.
 */
import { copyFileSync, mkdirSync } from "node:fs"
import { createRequire } from "node:module"
import { fileURLToPath } from "node:url"

const require = createRequire(import.meta.url)
const to = new URL("../dist/Http/docs/", import.meta.url)

mkdirSync(to, { recursive: true })
for (const name of ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt"]) {
  copyFileSync(require.resolve(`swagger-ui-dist/${name}`), fileURLToPath(new URL(name, to)))
}
