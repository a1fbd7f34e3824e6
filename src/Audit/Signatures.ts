/** What a program exports: effects whose error type says nothing. */
import type ts from "typescript"
import { errorType, members, vague } from "./Channel.js"
import { type Project, whereIs } from "./Project.js"
import type { Fault } from "./Report.js"

/** How far a type is followed through its members and what its functions answer. */
const deepest = 4

/**
 * A fault for each exported function, constant, member of a class and member of a type, of a module of the program,
 * that can fail with `any`, `unknown` or plain `Error`. What a function takes is not looked at: it may take anything.
 */
export const find = (project: Project): ReadonlyArray<Fault> => {
  const { checker, files, ts } = project
  const own = new Set(files)
  const faults = new Map<string, Fault>()
  const seen = new Set<ts.Type>()

  const isOwn = (symbol: ts.Symbol) => symbol.declarations?.some((node) => own.has(node.getSourceFile())) === true

  const visit = (type: ts.Type, name: string, at: ts.Node, depth: number): void => {
    if (depth > deepest) return
    if (type.isUnion()) {
      for (const member of type.types) visit(member, name, at, depth)
      return
    }
    const error = errorType(project, type)
    if (error !== null) {
      for (const member of members(project, error)) {
        const says = vague(project, member.type)
        if (says === null) continue
        const where = whereIs(project, at)
        const fault: Fault = { where, verdict: "untyped", detail: `\`${name}\` can fail with ${says}` }
        faults.set(`${where.file}:${where.line} ${name} ${says}`, fault)
      }
    }
    if (seen.has(type)) return
    seen.add(type)
    for (const signature of type.getCallSignatures()) {
      if (signature.declaration !== undefined && own.has(signature.declaration.getSourceFile())) {
        visit(signature.getReturnType(), name, at, depth + 1)
      }
    }
    if (!(type.flags & ts.TypeFlags.Object) && !type.isIntersection()) return
    for (const property of type.getProperties()) {
      const declaration = property.declarations?.[0]
      if (declaration === undefined || !isOwn(property) || isHidden(ts, declaration)) continue
      visit(checker.getTypeOfSymbol(property), `${name}.${property.name}`, declaration, depth + 1)
    }
  }

  for (const file of files) {
    const module = checker.getSymbolAtLocation(file)
    if (module === undefined) continue
    for (const exported of checker.getExportsOfModule(module)) {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported
      const [at] = symbol.declarations ?? []
      if (at === undefined || !own.has(at.getSourceFile())) continue
      if (symbol.flags & ts.SymbolFlags.Value) visit(checker.getTypeOfSymbol(symbol), symbol.name, at, 0)
      if (symbol.flags & (ts.SymbolFlags.Interface | ts.SymbolFlags.TypeAlias | ts.SymbolFlags.Class)) {
        const type = checker.getDeclaredTypeOfSymbol(symbol)
        visit(type, symbol.name, at, 0)
        // A service's members are the type of its tag.
        const service = symbol.flags & ts.SymbolFlags.Class ? type.getProperty("Type") : undefined
        if (service !== undefined) visit(checker.getTypeOfSymbol(service), symbol.name, at, 0)
      }
    }
  }
  return [...faults.values()]
}

const isHidden = (ts: Project["ts"], node: ts.Node): boolean =>
  ts.canHaveModifiers(node) &&
  ts
    .getModifiers(node)
    ?.some(({ kind }) => kind === ts.SyntaxKind.PrivateKeyword || kind === ts.SyntaxKind.ProtectedKeyword) === true
