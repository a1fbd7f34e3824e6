/** The error classes of a program: where each is declared, raised, and answered by its name. */
import type ts from "typescript"
import { members, tagOf } from "./Channel.js"
import { isEffects, type Project, symbolAt, whereIs } from "./Project.js"
import type { Where } from "./Report.js"

export interface ErrorClass {
  readonly symbol: ts.Symbol
  readonly name: string
  /** `null` for a class that extends `Error` and has none. */
  readonly tag: string | null
  readonly where: Where
  readonly raised: ReadonlyArray<Where>
  readonly answered: ReadonlyArray<Where>
}

/** The functions of Effect that answer an error by its tag. */
const byTag: ReadonlySet<string> = new Set(["catchTag", "isTagged", "tag"])
const byTags: ReadonlySet<string> = new Set(["catchTags", "tags", "tagsExhaustive", "valueTags", "typeTags"])

interface Found extends ErrorClass {
  readonly raised: Array<Where>
  readonly answered: Array<Where>
}

type Classes = ReadonlyMap<ts.Symbol, Found>

export const find = (project: Project, nodes: ReadonlyArray<ts.Node>): ReadonlyArray<ErrorClass> => {
  const classes = new Map<ts.Symbol, Found>()
  for (const node of nodes) {
    const found = project.ts.isClassLike(node) ? asError(project, node) : null
    if (found !== null) classes.set(found.symbol, { ...found, raised: [], answered: [] })
  }
  for (const node of nodes) {
    const made = raisedBy(project, node)
    if (made !== undefined) classes.get(made)?.raised.push(whereIs(project, node))
    for (const { answered } of answeredBy(project, node, classes)) answered.push(whereIs(project, node))
  }
  return [...classes.values()]
}

/** The class that `new X(…)` or `X.make(…)` makes one of. */
const raisedBy = (project: Project, node: ts.Node): ts.Symbol | undefined => {
  const { ts } = project
  if (ts.isNewExpression(node)) return symbolAt(project, node.expression)
  if (!ts.isCallExpression(node) || !ts.isPropertyAccessExpression(node.expression)) return undefined
  const { expression, name } = node.expression
  return name.text === "make" ? symbolAt(project, expression) : undefined
}

/** The classes that a node names: by `instanceof`, by a comparison of `_tag`, or to a function of Effect. */
const answeredBy = (project: Project, node: ts.Node, classes: Classes): ReadonlyArray<Found> => {
  const { ts } = project
  if (ts.isCaseClause(node)) return byComparison(project, node.parent.parent.expression, node.expression, classes)
  if (ts.isBinaryExpression(node)) {
    const { kind } = node.operatorToken
    if (kind === ts.SyntaxKind.EqualsEqualsEqualsToken) return byComparison(project, node.left, node.right, classes)
    const symbol = kind === ts.SyntaxKind.InstanceOfKeyword ? symbolAt(project, node.right) : undefined
    const found = symbol === undefined ? undefined : classes.get(symbol)
    return found === undefined ? [] : [found]
  }
  // Its name first: to find out what each call of a program is would take seconds.
  const call = ts.isStringLiteralLike(node) ? node.parent : ts.isObjectLiteralElement(node) ? node.parent.parent : null
  if (call === null || !ts.isCallExpression(call)) return []
  const callee = ts.isPropertyAccessExpression(call.expression) ? call.expression.name : call.expression
  const names = ts.isStringLiteralLike(node) ? byTag : byTags
  if (!names.has(callee.getText()) || !symbolAt(project, callee)?.declarations?.some(isEffects)) return []
  const tag = ts.isStringLiteralLike(node) ? node.text : ts.isObjectLiteralElement(node) ? nameOf(node) : undefined
  return [...classes.values()].filter((found) => found.tag !== null && found.tag === tag)
}

const nameOf = ({ name }: ts.ObjectLiteralElement): string | undefined =>
  name !== undefined && "text" in name ? name.text : undefined

/** `x._tag` beside a text: the classes with that tag that x can be of. */
const byComparison = (project: Project, left: ts.Expression, right: ts.Expression, classes: Classes) => {
  const { checker, ts } = project
  if (!ts.isStringLiteralLike(right) || !ts.isPropertyAccessExpression(left) || left.name.text !== "_tag") return []
  return members(project, checker.getTypeAtLocation(left.expression)).flatMap(({ tag, type }) => {
    const found = tag === right.text && type.symbol ? classes.get(type.symbol) : undefined
    return found === undefined ? [] : [found]
  })
}

/** A class whose instances are errors. */
const asError = (project: Project, node: ts.ClassLikeDeclaration) => {
  const { checker, ts } = project
  const parent = node.heritageClauses?.find(({ token }) => token === ts.SyntaxKind.ExtendsKeyword)
  const symbol = node.name === undefined ? undefined : checker.getSymbolAtLocation(node.name)
  if (parent === undefined || symbol === undefined) return null
  const type = checker.getDeclaredTypeOfSymbol(symbol)
  if (!isError(project, type)) return null
  return { symbol, name: symbol.name, tag: tagOf(project, type), where: whereIs(project, node.name ?? node) }
}

/** Whether a type is, or inherits from, the `Error` of the language. */
const isError = (project: Project, type: ts.Type): boolean => {
  if (type.isUnionOrIntersection()) return type.types.some((member) => isError(project, member))
  if (type.symbol?.name === "Error") {
    return (
      type.symbol.declarations?.some((node) => project.program.isSourceFileDefaultLibrary(node.getSourceFile())) ===
      true
    )
  }
  return (type.getBaseTypes() ?? []).some((base) => isError(project, base))
}
