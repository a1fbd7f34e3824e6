/** The audit itself: one walk over a program's files, and what each part of it finds. */
import type ts from "typescript"
import * as Decisions from "./Decisions.js"
import * as Errors from "./Errors.js"
import * as Places from "./Places.js"
import type { Project } from "./Project.js"
import type { Answered, Fault, Report, Stored } from "./Report.js"
import * as Signatures from "./Signatures.js"
import * as Words from "./Words.js"

export const audit = (project: Project): Report => {
  const nodes = [...walk(project)]
  const list = Words.readList(project)
  const {
    faults: atPlaces,
    forks,
    places,
    settled,
    tags,
  } = Places.find(project, nodes.filter(project.ts.isCallExpression))
  const words = Words.find(project, nodes, list)
  const tables = Decisions.ofTables(project)
  const faults: Array<Fault> = [...atPlaces, ...Signatures.find(project), ...words.faults]
  if (places.length === 0) {
    const where = { file: project.config, line: 0 }
    faults.push({ where, verdict: "no-places", detail: "nothing in this program calls `settle`" })
  }

  const stored: Array<Stored> = []
  const answered: Array<Answered> = []
  const used = new Set<Words.Entry>()
  for (const { name, raised, symbol, tag, where, ...found } of Errors.find(project, nodes)) {
    if (raised.length === 0) {
      faults.push({ where, verdict: "never-raised", detail: `${name} is declared and never raised` })
      continue
    }
    if (settled.has(symbol)) continue
    const decision = tag === null ? undefined : tables.get(tag)
    if (tag !== null && decision !== undefined) {
      stored.push({ tag, raised, ...decision })
      continue
    }
    const entry = list.find(({ error, file }) => error === name && file === where.file)
    if (entry !== undefined && found.answered.length === 0) used.add(entry)
    else if (found.answered.length === 0) {
      const detail = `${name} is raised, and neither settled nor answered by its name anywhere`
      faults.push({ where, verdict: "not-in-table", detail })
      continue
    }
    const reason = entry !== undefined && used.has(entry) ? entry.reason : null
    answered.push({ error: name, raised, answered: found.answered, reason })
  }
  for (const entry of list) {
    if (entry.error === undefined || used.has(entry)) continue
    faults.push(Words.unused(entry, `${entry.error} of ${entry.file} is in the table without it, or is not there`))
  }
  // A tag of a table that a place settles has its row there.
  return {
    places,
    forks,
    stored: stored.filter(({ tag }) => !tags.has(tag)),
    answered,
    allowed: words.allowed,
    faults: faults.sort(byPlace),
  }
}

const byPlace = ({ where: a }: Fault, { where: b }: Fault) =>
  a.file === b.file ? a.line - b.line : a.file < b.file ? -1 : 1

const walk = function* ({ files, ts }: Project): Generator<ts.Node> {
  const stack: Array<ts.Node> = [...files].reverse()
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    yield node
    const children: Array<ts.Node> = []
    ts.forEachChild(node, (child) => {
      children.push(child)
    })
    stack.push(...children.reverse())
  }
}
