/** The words that drop a failure or start a fiber that nothing settles, and where audit.json allows them. */
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import type ts from "typescript"
import { CannotAudit, isEffects, type Project, symbolAt, whereIs } from "./Project.js"
import type { Allowed, Fault, Where } from "./Report.js"

/** Each word, of any module of Effect, and what it does. */
const words: Readonly<Record<string, string>> = {
  forkDaemon: "starts a fiber that `settle` knows nothing of",
  runFork: "starts a fiber that `settle` knows nothing of",
  orDie: "makes a defect of an error that somebody should handle",
  orDieWith: "makes a defect of an error that somebody should handle",
  ignore: "drops a failure",
  ignoreLogged: "drops a failure",
  catchAllCause: "handles defects and interruptions like errors",
}

/** An entry of audit.json: a word that may stand in a file, or an error class of it that nothing has to answer. */
export interface Entry {
  readonly file: string
  readonly reason: string
  readonly word?: string
  readonly error?: string
  /** How often the word stands in the file; 1 where it is absent. */
  readonly times?: number
}

/** The name of the list, beside the tsconfig. */
export const listName = "audit.json"

/** The entries of the list beside the tsconfig; none where there is no list. Throws `CannotAudit` on one it cannot read. */
export const readList = ({ folder }: Project): ReadonlyArray<Entry> => {
  const path = join(folder, listName)
  if (!existsSync(path)) return []
  const refuse = (why: string): never => {
    throw new CannotAudit(`${path}: ${why}`)
  }
  let read: unknown
  try {
    read = JSON.parse(readFileSync(path, "utf8"))
  } catch {
    return refuse("this is not JSON.")
  }
  if (!Array.isArray(read)) return refuse("an array of entries is expected.")
  return read.map((entry: unknown, index) =>
    isEntry(entry)
      ? entry
      : refuse(
          `entry ${index + 1} must be {file, word, reason, times?} or {file, error, reason}, with a reason that says why.`,
        ),
  )
}

const isEntry = (value: unknown): value is Entry => {
  if (typeof value !== "object" || value === null) return false
  const { file, reason, word, error, times = 1, ...rest }: Partial<Record<string, unknown>> = { ...value }
  return (
    typeof file === "string" &&
    typeof reason === "string" &&
    reason.trim() !== "" &&
    (typeof word === "string") !== (typeof error === "string") &&
    typeof times === "number" &&
    Object.keys(rest).length === 0
  )
}

/** Where the words stand: what the list allows, and what it does not. */
export const find = (
  project: Project,
  nodes: Iterable<ts.Node>,
  list: ReadonlyArray<Entry>,
): { readonly allowed: ReadonlyArray<Allowed>; readonly faults: ReadonlyArray<Fault> } => {
  const left = new Map(list.filter(({ word }) => word !== undefined).map((entry) => [entry, entry.times ?? 1]))
  const allowed: Array<Allowed> = []
  const faults: Array<Fault> = []
  for (const { where, word } of uses(project, nodes)) {
    const entry = [...left.keys()].find((entry) => entry.file === where.file && entry.word === word)
    const times = entry === undefined ? 0 : (left.get(entry) ?? 0)
    if (entry !== undefined && times > 0) {
      left.set(entry, times - 1)
      allowed.push({ where, word, reason: entry.reason })
    } else {
      faults.push({ where, verdict: "word", detail: `\`${word}\` ${words[word]}; ${listName} does not allow it here` })
    }
  }
  for (const [entry, times] of left) {
    if (times > 0) faults.push(unused(entry, `\`${entry.word}\` stands less often in ${entry.file} than it says`))
  }
  return { allowed, faults }
}

/** An entry that allows what is not there. */
export const unused = ({ reason }: Entry, why: string): Fault => ({
  where: { file: listName, line: 1 },
  verdict: "unused-entry",
  detail: `${why} ("${reason}")`,
})

/** Each use of a word that is Effect's, under whatever name it was imported. */
const uses = function* (project: Project, nodes: Iterable<ts.Node>): Generator<{ where: Where; word: string }> {
  const { ts } = project
  const renamed = new Map<ts.Symbol, string>()
  for (const node of nodes) {
    if (ts.isImportSpecifier(node)) {
      // An import alone does nothing; under another name the word would not be seen where it is used.
      const word = node.propertyName?.text ?? ""
      const symbol = project.checker.getSymbolAtLocation(node.name)
      if (Object.hasOwn(words, word) && symbol !== undefined && isOfEffect(project, node.name))
        renamed.set(symbol, word)
      continue
    }
    if (ts.isElementAccessExpression(node) && ts.isStringLiteralLike(node.argumentExpression)) {
      const word = node.argumentExpression.text
      if (Object.hasOwn(words, word) && isOfEffect(project, node.argumentExpression)) {
        yield { where: whereIs(project, node.argumentExpression), word }
      }
      continue
    }
    if (!ts.isIdentifier(node) || ts.isImportSpecifier(node.parent) || ts.isExportSpecifier(node.parent)) continue
    if (Object.hasOwn(words, node.text)) {
      if (isOfEffect(project, node)) yield { where: whereIs(project, node), word: node.text }
    } else if (renamed.size > 0) {
      const symbol = project.checker.getSymbolAtLocation(node)
      const word = symbol === undefined ? undefined : renamed.get(symbol)
      if (word !== undefined) yield { where: whereIs(project, node), word }
    }
  }
}

const isOfEffect = (project: Project, node: ts.Node): boolean =>
  symbolAt(project, node)?.declarations?.some(isEffects) === true
