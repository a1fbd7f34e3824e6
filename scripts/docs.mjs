/**
 * Puts what the page `/docs` is made of beside the built program: two files of Swagger UI, which is no dependency of
 * the installed package, also compressed. Part of `npm run build`.
 */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { fileURLToPath } from "node:url"
import { brotliCompressSync, gzipSync } from "node:zlib"

const require = createRequire(import.meta.url)
const to = new URL("../dist/Http/docs/", import.meta.url)

mkdirSync(to, { recursive: true })
for (const name of ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt"]) {
  const from = require.resolve(`swagger-ui-dist/${name}`)
  copyFileSync(from, fileURLToPath(new URL(name, to)))
  if (name.endsWith(".txt")) continue
  writeFileSync(new URL(`${name}.br`, to), brotliCompressSync(readFileSync(from)))
  writeFileSync(new URL(`${name}.gzip`, to), gzipSync(readFileSync(from), { level: 9 }))
}
