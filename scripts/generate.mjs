/**
 * Writes the parts of the documents that are made from the program: the settings in README.md,
 * the adapters in docs/llm.md, the metrics in docs/metrics.md, docs/errors.md and docs/openapi.json.
 * It reads `dist`, so build first. With `--check` it writes nothing and names each file that is out of date.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { openApiDocument } from "../dist/Api/Document.js"
import { dispositions } from "../dist/Job/JobError.js"
import { adapters } from "../dist/Llm/Adapters.js"
import { network } from "../dist/Llm/Environment.js"
import { metrics } from "../dist/Metrics.js"
import { settings } from "../dist/OffloadConfig.js"

const path = (name) => new URL(`../${name}`, import.meta.url)
const read = (name) => (existsSync(path(name)) ? readFileSync(path(name), "utf8") : "")

const table = (head, rows) => {
  // A bar would end the cell, in code too.
  const line = (cells) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n")
}

const code = (text) => (text === "" ? "" : `\`${text}\``)

/** Puts text between `<!-- name -->` and `<!-- /name -->`. */
const between = (file, name, text) => {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const content = read(file)
  const [start, end] = [content.indexOf(open), content.indexOf(close)]
  if (start === -1 || end < start) throw new Error(`${file} lacks ${open} … ${close}`)
  return `${content.slice(0, start + open.length)}\n\n${text}\n\n${content.slice(end)}`
}

const settingsTable = table(
  ["Setting", "What it means", "Takes", "Default"],
  Object.values(settings).map(({ documentation: { name, doc, takes, default: value } }) => [
    code(name),
    doc,
    takes,
    code(value) || "nothing",
  ]),
)

const adapterTable = table(
  ["Adapter", "Command line", "Variables that it may see, beside the common ones"],
  Object.entries(adapters).map(([name, { args, command, env }]) => [
    code(name),
    name === "demo"
      ? "the demo model of this package"
      : code([command, ...args({ prompt: "", model: "{model}", system: "{system}" }, null)].join(" ")),
    [
      ...env.filter((variable) => !network.includes(variable)).map(code),
      ...(network.every((variable) => env.includes(variable)) ? ["those of proxies and certificates"] : []),
    ].join(", ") || "none",
  ]),
)

const metricTable = table(
  ["Metric", "Kind", "Labels", "What it means"],
  Object.entries(metrics).map(([name, { doc, kind, labels }]) => [
    code(name),
    kind,
    labels.map(code).join(", ") || "none",
    doc,
  ]),
)

const errors = `# Errors

This page is generated from \`dispositions\` in \`src/Job/JobError.ts\` by \`npm run generate\`: change it there.

Each way in which a job can fail: the \`error.tag\` of the job, whether another attempt may follow by itself, the level
of its one log line, and what you can do.

${table(
  ["Tag", "Title", "Retryable", "Log level", "What to do"],
  Object.entries(dispositions).map(([tag, { title, retryable, level, remedy }]) => [
    code(tag),
    title,
    retryable ? "yes" : "no",
    level,
    remedy,
  ]),
)}
`

const files = {
  "README.md": between("README.md", "settings", settingsTable),
  "docs/errors.md": errors,
  "docs/metrics.md": between("docs/metrics.md", "metrics", metricTable),
  "docs/openapi.json": `${JSON.stringify(openApiDocument(), null, 2)}\n`,
  "docs/llm.md": between("docs/llm.md", "adapters", adapterTable),
}

const stale = Object.keys(files).filter((name) => read(name) !== files[name])

if (process.argv.includes("--check")) {
  for (const name of stale) console.error(`${name} is out of date: run \`npm run generate\`.`)
  process.exitCode = stale.length > 0 ? 1 : 0
} else {
  for (const name of stale) {
    writeFileSync(path(name), files[name])
    console.log(`wrote ${name}`)
  }
}
