/**
 * Makes one program of the service and what it imports, but for what is native or loaded only where it is used: Node
 * reads more than a thousand modules otherwise, which takes longer than all the rest of a start. And puts what is no
 * TypeScript beside what was compiled. Part of `npm run build`.
 */
import { copyFileSync, rmSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"

const path = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url))

for (const name of ["launcher", "sandbox", "system"]) {
  copyFileSync(path(`src/Llm/${name}.pl`), path(`dist/Llm/${name}.pl`))
}

// Chunks of an earlier build have other names.
rmSync(path("dist/bundle"), { recursive: true, force: true })
await build({
  entryPoints: [path("dist/main.js")],
  outdir: path("dist/bundle"),
  bundle: true,
  splitting: true,
  platform: "node",
  format: "esm",
  target: "node20",
  // The service has no use for them, and they are a third of its text: an HTTP client and WebSockets, which the platform's
  // server brings along, and the generator of samples for schemas.
  alias: Object.fromEntries(["undici", "ws", "fast-check"].map((name) => [name, path("scripts/absent.cjs")])),
  external: ["lmdb", "ioredis", "@effect/opentelemetry"],
  // For the modules that are not ESM.
  banner: {
    js: 'import { createRequire as createRequireOfBundle } from "node:module"\nconst require = createRequireOfBundle(import.meta.url)',
  },
  logLevel: "warning",
})
