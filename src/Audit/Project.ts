/** What is audited: a program as its own compiler sees it, and which of its files are its own. */
import { existsSync, readFileSync, statSync } from "node:fs"
import { createRequire } from "node:module"
import { basename, dirname, join, relative, resolve } from "node:path"
import type ts from "typescript"
import type { Where } from "./Report.js"

export type Compiler = typeof ts

/** Why a program cannot be audited at all: nothing was found out about its errors. */
export class CannotAudit extends Error {
  override readonly name = "CannotAudit"
}

export interface Project {
  readonly ts: Compiler
  readonly program: ts.Program
  readonly checker: ts.TypeChecker
  /** The folder of the tsconfig, and its name there. */
  readonly folder: string
  readonly config: string
  /** The program's own files: none of a package, no declarations. */
  readonly files: ReadonlyArray<ts.SourceFile>
}

/** Files that are parsed once for several programs, by their path. */
export type ParsedFiles = Map<string, ts.SourceFile>

/**
 * Opens the program of a tsconfig, or of the tsconfig.json in a folder, with the TypeScript that is installed for it.
 * Throws `CannotAudit` where it is not there, or would tell nothing: no compiler, no files, no strict types, an import
 * that nothing is found for.
 */
export const open = (path: string, parsedFiles?: ParsedFiles): Project => {
  const config = existsSync(path) && statSync(path).isDirectory() ? join(path, "tsconfig.json") : path
  if (!existsSync(config)) throw new CannotAudit(`There is no ${config}.`)
  const folder = dirname(resolve(config))
  const ts = findCompiler(folder)
  const { fileNames, options } = readConfig(ts, resolve(config))
  const host = ts.createCompilerHost(options)
  const program = ts.createProgram({
    rootNames: [...fileNames],
    options,
    host: parsedFiles === undefined ? host : remembering(host, parsedFiles),
  })
  const project = {
    ts,
    program,
    checker: program.getTypeChecker(),
    folder,
    config: basename(config),
    files: program
      .getSourceFiles()
      .filter(
        (file) =>
          !file.isDeclarationFile &&
          !file.fileName.includes("/node_modules/") &&
          (fileNames.includes(file.fileName) || !relative(folder, file.fileName).startsWith("..")),
      ),
  }
  refuseBroken(project)
  return project
}

const findCompiler = (folder: string): Compiler => {
  let found: unknown
  try {
    found = createRequire(join(folder, "package.json"))("typescript")
  } catch {
    throw new CannotAudit(
      `No TypeScript is installed for ${folder}: the audit uses the project's own compiler. Run \`npm install --save-dev typescript\` there.`,
    )
  }
  if (isCompiler(found)) return found
  throw new CannotAudit(
    `The TypeScript of ${folder} has no compiler API that the audit knows: it needs version 5.4 to 6.`,
  )
}

const isCompiler = (value: unknown): value is Compiler =>
  typeof value === "object" && value !== null && "createProgram" in value && typeof value.createProgram === "function"

const readConfig = (ts: Compiler, path: string) => {
  const say = (diagnostic: ts.Diagnostic) => ts.flattenDiagnosticMessageText(diagnostic.messageText, "\n")
  const parsed = ts.getParsedCommandLineOfConfigFile(
    path,
    { noEmit: true, skipLibCheck: true, incremental: false, composite: false },
    {
      ...ts.sys,
      onUnRecoverableConfigFileDiagnostic: (diagnostic) => {
        throw new CannotAudit(`${path}: ${say(diagnostic)}`)
      },
    },
  )
  if (parsed === undefined) throw new CannotAudit(`${path} could not be read.`)
  const { errors, fileNames, options, projectReferences = [] } = parsed
  if (fileNames.length === 0 && projectReferences.length > 0) {
    const names = projectReferences.map(({ path: reference }) => relative(dirname(path), reference)).join(", ")
    throw new CannotAudit(`${path} has no files of its own: audit what it refers to, one by one (${names}).`)
  }
  const [first] = errors
  if (first !== undefined) throw new CannotAudit(`${path}: ${say(first)}`)
  if (!(options.strictNullChecks ?? options.strict)) {
    throw new CannotAudit(`${path} does not set \`strict\`: without it the types do not say what can fail.`)
  }
  return { fileNames, options }
}

const remembering = (host: ts.CompilerHost, files: ParsedFiles): ts.CompilerHost => ({
  ...host,
  getSourceFile: (name, ...rest) => {
    const file = files.get(name) ?? host.getSourceFile(name, ...rest)
    if (file !== undefined) files.set(name, file)
    return file
  },
})

/** An import that is not found has the type `any`: everything it touches would look clean. */
const refuseBroken = ({ checker, files, folder, program, ts }: Project): void => {
  for (const file of files) {
    const [syntax] = program.getSyntacticDiagnostics(file)
    if (syntax !== undefined) {
      const text = ts.flattenDiagnosticMessageText(syntax.messageText, "\n")
      throw new CannotAudit(`${relative(folder, file.fileName)} does not parse: ${text}`)
    }
    for (const statement of file.statements) {
      const from =
        ts.isImportDeclaration(statement) || ts.isExportDeclaration(statement) ? statement.moduleSpecifier : null
      // An import for its effects alone brings no types.
      if (!from || (ts.isImportDeclaration(statement) && statement.importClause === undefined)) continue
      if (checker.getSymbolAtLocation(from) === undefined) {
        throw new CannotAudit(`${relative(folder, file.fileName)} imports ${from.getText()}, which is not found.`)
      }
    }
  }
}

/** Where a node stands. */
export const whereIs = ({ folder, ts }: Project, node: ts.Node): Where => {
  const file = node.getSourceFile()
  return {
    file: relative(folder, file.fileName).replaceAll("\\", "/"),
    line: file.getLineAndCharacterOfPosition(node.getStart()).line + 1,
    within: enclosing(ts, node),
  }
}

/** The outermost declaration around a node, and the member of it where that is a class. */
const enclosing = (ts: Compiler, node: ts.Node): string => {
  const names: Array<string> = []
  for (let at = node.parent; at !== undefined && !ts.isSourceFile(at); at = at.parent) {
    if (ts.isFunctionDeclaration(at) || ts.isVariableDeclaration(at)) names.length = 0
    else if (!ts.isClassElement(at) && !ts.isClassDeclaration(at)) continue
    if (at.name !== undefined) names.unshift(at.name.getText())
  }
  return names.join(".") || "the module"
}

/** The symbol that a name stands for, through imports and re-exports. */
export const symbolAt = ({ checker, ts }: Project, node: ts.Node): ts.Symbol | undefined => {
  const symbol = checker.getSymbolAtLocation(node)
  return symbol !== undefined && symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
}

/** The npm package that a declaration comes from; `null` for the compiler's own. */
export const packageOf = (declaration: ts.Node): string | null => {
  let folder = dirname(declaration.getSourceFile().fileName)
  const passed: Array<string> = []
  while (!packages.has(folder)) {
    passed.push(folder)
    const name = nameOf(join(folder, "package.json"))
    if (name !== null || dirname(folder) === folder) {
      packages.set(folder, name)
      break
    }
    folder = dirname(folder)
  }
  const found = packages.get(folder) ?? null
  for (const below of passed) packages.set(below, found)
  return found
}

const packages = new Map<string, string | null>()

/** Folders of a package may hold a package.json without a name, which says only how its files are loaded. */
const nameOf = (path: string): string | null => {
  if (!existsSync(path)) return null
  const read: unknown = JSON.parse(readFileSync(path, "utf8"))
  return typeof read === "object" && read !== null && "name" in read && typeof read.name === "string" ? read.name : null
}

/** Whether a declaration is this library's, in its sources or in what was built of them. */
export const isOurs = (declaration: ts.Node, module: string): boolean =>
  packageOf(declaration) === "effect-offload" &&
  new RegExp(`/(src|dist)/${module}(\\.d)?\\.ts$`).test(declaration.getSourceFile().fileName)

/** Whether a declaration is one of Effect's packages. */
export const isEffects = (declaration: ts.Node): boolean => /^(effect$|@effect\/)/.test(packageOf(declaration) ?? "")

/** Text of the program on one line, cut where it is long. */
export const brief = (node: ts.Node, longest = 72): string => {
  const text = node.getText().replace(/\s+/g, " ").replaceAll(", }", " }")
  return text.length <= longest ? text : `${text.slice(0, longest - 1)}…`
}
