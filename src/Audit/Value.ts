/**
 * What an expression can be, as far as the program's text and types say: enough to read the literals that a handler
 * returns through the functions, tables, spreads and conditions that it goes by. Nothing of the program is run.
 */
import type ts from "typescript"
import { dispositions } from "../Job/JobError.js"
import { isOurs, type Project, symbolAt } from "./Project.js"

export type Value =
  | { readonly _tag: "Literal"; readonly value: string | number | boolean | null | undefined }
  /** `typed`: its type alone is known, so that an optional member may never be there. */
  | { readonly _tag: "Object"; readonly get: (name: string) => Values; readonly typed: boolean }
  | { readonly _tag: "Function"; readonly node: ts.SignatureDeclaration; readonly env: Env }
  /** Not known before the program runs; `by` names what computes it. */
  | { readonly _tag: "Computed"; readonly by: string }

/** All that it can be. */
export type Values = ReadonlyArray<Value>

/** What the parameters of the functions around are. */
export type Env = ReadonlyMap<ts.Symbol, Values>

/** Deeper than this a handler is not read: a recursion ends here. */
const deepest = 24

const absent: Value = { _tag: "Literal", value: undefined }
const noEnv: Env = new Map()

const literal = (value: string | number | boolean | null | undefined): Values => [{ _tag: "Literal", value }]
const computed = (by: string): Values => [{ _tag: "Computed", by }]
const isAbsent = (value: Value) => value._tag === "Literal" && value.value === undefined
const isKnown = (values: Values) => values.length > 0 && values.every(({ _tag }) => _tag !== "Computed")

/** What a type says alone. A union of several literals says too little: it is computed. */
export const fromType = (project: Project, type: ts.Type, by: string): Values => {
  const { checker, ts } = project
  if (type.isStringLiteral() || type.isNumberLiteral()) return literal(type.value)
  if (type.flags & ts.TypeFlags.BooleanLiteral) return literal(checker.typeToString(type) === "true")
  if (type.flags & ts.TypeFlags.Null) return literal(null)
  if (type.flags & (ts.TypeFlags.Undefined | ts.TypeFlags.Void)) return literal(undefined)
  if (type.isUnion() || type.isIntersection() || type.flags & ts.TypeFlags.Object) {
    const get = (name: string): Values => {
      const property = checker.getPropertyOfType(type, name)
      return property === undefined ? [absent] : fromType(project, checker.getTypeOfSymbol(property), by)
    }
    const isObject = !type.isUnion() || type.types.every((member) => member.flags & ts.TypeFlags.Object)
    return isObject ? [{ _tag: "Object", get, typed: true }] : computed(by)
  }
  return computed(by)
}

/** Calls a function with arguments: what it can return. */
export const apply = (project: Project, values: Values, args: ReadonlyArray<Values>, by: string, depth = 0): Values =>
  values.flatMap((value): Values => {
    if (value._tag !== "Function" || depth > deepest) return computed(by)
    const env = new Map(value.env)
    for (const [index, parameter] of value.node.parameters.entries()) {
      const symbol = project.checker.getSymbolAtLocation(parameter.name)
      const argument = args[index]
      if (argument === undefined) continue
      if (symbol !== undefined) env.set(symbol, argument)
      if (project.ts.isObjectBindingPattern(parameter.name)) bind(project, parameter.name, argument, env)
    }
    const go = (node: ts.Node) => evaluate(project, node, env, by, depth + 1)
    const found = returned(project, value.node, go)
    return found.length === 0 ? fromReturnType(project, value.node, by) : found.flatMap(go)
  })

/** What an expression can be. */
export const evaluate = (project: Project, node: ts.Node, env: Env = noEnv, by = "the program", depth = 0): Values => {
  if (depth > deepest) return computed(by)
  const { checker, ts } = project
  const go = (next: ts.Node) => evaluate(project, next, env, by, depth + 1)
  const byType = () => fromType(project, checker.getTypeAtLocation(node), by)
  const orByType = (values: Values) => (isKnown(values) ? values : preferKnown(byType(), values))

  const named = (symbol: ts.Symbol): Values => {
    const alias = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
    const found = env.get(alias) ?? fromSymbol(project, alias, go)
    return isKnown(found) ? found : preferKnown(fromType(project, checker.getTypeOfSymbol(alias), by), found)
  }

  if (ts.isParenthesizedExpression(node) || ts.isAsExpression(node) || ts.isSatisfiesExpression(node))
    return go(node.expression)
  if (ts.isNonNullExpression(node)) return go(node.expression)
  if (ts.isStringLiteralLike(node)) return literal(node.text)
  if (node.kind === ts.SyntaxKind.TrueKeyword) return literal(true)
  if (node.kind === ts.SyntaxKind.FalseKeyword) return literal(false)
  if (ts.isFunctionLike(node)) return [{ _tag: "Function", node, env }]
  if (ts.isObjectLiteralExpression(node))
    return [{ _tag: "Object", get: (name) => member(project, node, name, go, named), typed: false }]
  if (ts.isConditionalExpression(node)) {
    const holds = truth(project, node.condition, go)
    return [...(holds === false ? [] : go(node.whenTrue)), ...(holds === true ? [] : go(node.whenFalse))]
  }
  if (ts.isIdentifier(node)) {
    const symbol = symbolAt(project, node)
    return symbol === undefined ? byType() : (env.get(symbol) ?? orByType(fromSymbol(project, symbol, go)))
  }
  if (ts.isPropertyAccessExpression(node)) {
    const symbol = symbolAt(project, node.name)
    const declared = () => (symbol === undefined ? [] : fromSymbol(project, symbol, go))
    // A member of a module is what is declared there; the type of the module says less.
    const module = ts.isIdentifier(node.expression) ? symbolAt(project, node.expression) : undefined
    if (module !== undefined && module.flags & ts.SymbolFlags.ValueModule) return orByType(declared())
    const found = getAll(go(node.expression), node.name.text, by)
    return isKnown(found) ? found : orByType(declared())
  }
  if (ts.isElementAccessExpression(node)) {
    const names = go(node.argumentExpression)
    const from = go(node.expression)
    return orByType(
      names.flatMap((name) => (name._tag === "Literal" ? getAll(from, String(name.value), by) : computed(by))),
    )
  }
  if (ts.isCallExpression(node)) {
    const callee = go(node.expression)
    const name = brieflyNamed(ts, node.expression)
    const args = node.arguments.map((argument) => go(argument))
    if (isToFailure(project, node.expression)) return failureOf(args[0] ?? [], name)
    return isKnown(callee)
      ? apply(project, callee, args, name, depth + 1)
      : fromType(project, checker.getTypeAtLocation(node), name)
  }
  return byType()
}

/** Whether it is the library's own `toFailure`, whose text is not there where the library is a package. */
const isToFailure = (project: Project, callee: ts.Expression): boolean => {
  const symbol = symbolAt(project, project.ts.isPropertyAccessExpression(callee) ? callee.name : callee)
  return symbol?.name === "toFailure" && symbol.declarations?.some((at) => isOurs(at, "Job/JobError")) === true
}

/** What `toFailure` keeps of an error, by its tag. */
const failureOf = (error: Values, by: string): Values =>
  getAll(error, "_tag", by).map((tag): Value => {
    const row = Object.entries(dispositions).find(([name]) => tag._tag === "Literal" && tag.value === name)
    const get = (name: string): Values =>
      row === undefined || (name !== "tag" && name !== "retryable")
        ? computed(by)
        : literal(name === "tag" ? row[0] : row[1].retryable)
    return { _tag: "Object", get, typed: true }
  })

const brieflyNamed = (ts: Project["ts"], callee: ts.Expression): string =>
  ts.isIdentifier(callee) || ts.isPropertyAccessExpression(callee) ? callee.getText() : "a function"

const preferKnown = (first: Values, second: Values): Values => (isKnown(first) || second.length === 0 ? first : second)

const getAll = (values: Values, name: string, by: string): Values =>
  values.flatMap((value): Values => (value._tag === "Object" ? value.get(name) : computed(by)))

/** What a declaration gives to its name. */
const fromSymbol = (project: Project, symbol: ts.Symbol, go: (node: ts.Node) => Values): Values => {
  const { checker, ts } = project
  const declaration = symbol.valueDeclaration
  if (declaration === undefined) return []
  if (ts.isFunctionDeclaration(declaration)) {
    // Of overloads the last has the body.
    const body = symbol.declarations?.filter(ts.isFunctionDeclaration).find((overload) => overload.body !== undefined)
    return go(body ?? declaration)
  }
  if (ts.isMethodDeclaration(declaration)) return go(declaration)
  if (ts.isPropertyAssignment(declaration)) return go(declaration.initializer)
  if (ts.isShorthandPropertyAssignment(declaration)) {
    const value = checker.getShorthandAssignmentValueSymbol(declaration)
    return value === undefined ? [] : fromSymbol(project, value, go)
  }
  if (ts.isVariableDeclaration(declaration)) {
    const isConst = ts.getCombinedNodeFlags(declaration) & ts.NodeFlags.Const
    return isConst && declaration.initializer !== undefined ? go(declaration.initializer) : []
  }
  if (ts.isBindingElement(declaration)) return fromBinding(project, declaration, go)
  return []
}

/** `const { a } = b`: the `a` of what `b` is. */
const fromBinding = ({ ts }: Project, element: ts.BindingElement, go: (node: ts.Node) => Values): Values => {
  const declaration = element.parent.parent
  const name = element.propertyName ?? element.name
  if (!ts.isVariableDeclaration(declaration) || declaration.initializer === undefined || !ts.isIdentifier(name))
    return []
  return getAll(go(declaration.initializer), name.text, name.text)
}

const bind = (
  project: Project,
  pattern: ts.ObjectBindingPattern,
  values: Values,
  env: Map<ts.Symbol, Values>,
): void => {
  for (const element of pattern.elements) {
    const name = element.propertyName ?? element.name
    const symbol = project.checker.getSymbolAtLocation(element.name)
    if (symbol !== undefined && project.ts.isIdentifier(name)) env.set(symbol, getAll(values, name.text, name.text))
  }
}

/** A member of an object literal: the last one that gives it, and those before it where that one may not. */
const member = (
  { checker, ts }: Project,
  node: ts.ObjectLiteralExpression,
  name: string,
  go: (node: ts.Node) => Values,
  named: (symbol: ts.Symbol) => Values,
): Values => {
  const found: Array<Value> = []
  for (const property of [...node.properties].reverse()) {
    if (ts.isSpreadAssignment(property)) {
      const values = getAll(go(property.expression), name, name)
      found.push(...values.filter((value) => !isAbsent(value)))
      if (values.length > 0 && !values.some(isAbsent)) return found
      continue
    }
    if (property.name === undefined || !("text" in property.name) || property.name.text !== name) continue
    if (ts.isPropertyAssignment(property)) return [...found, ...go(property.initializer)]
    if (ts.isShorthandPropertyAssignment(property)) {
      const symbol = checker.getShorthandAssignmentValueSymbol(property)
      return [...found, ...(symbol === undefined ? computed(name) : named(symbol))]
    }
    return [...found, ...go(property)]
  }
  return [...found, absent]
}

/** The expressions that a function returns, without those of a `switch` that another value goes to. */
const returned = (
  { ts }: Project,
  node: ts.SignatureDeclaration,
  valueOf: (node: ts.Node) => Values,
): ReadonlyArray<ts.Expression> => {
  if (!("body" in node) || node.body === undefined) return []
  if (!ts.isBlock(node.body)) return [node.body]
  const found: Array<ts.Expression> = []
  const visit = (at: ts.Node): void => {
    if (ts.isFunctionLike(at)) return
    if (ts.isReturnStatement(at) && at.expression !== undefined) found.push(at.expression)
    if (ts.isSwitchStatement(at)) for (const clause of clauses(ts, at, valueOf)) visit(clause)
    else ts.forEachChild(at, visit)
  }
  visit(node.body)
  return found
}

const clauses = (ts: Project["ts"], node: ts.SwitchStatement, valueOf: (node: ts.Node) => Values) => {
  const all = node.caseBlock.clauses
  const values = valueOf(node.expression)
  const first = all.findIndex(
    (clause) => ts.isCaseClause(clause) && values.length === 1 && isSame(values, valueOf(clause.expression)) === true,
  )
  // A clause without statements goes on into the next one.
  const ends = all.findIndex((clause, index) => index >= first && clause.statements.length > 0)
  return first === -1 ? [...all] : all.slice(ends, ends + 1)
}

/** Whether a condition holds, where it compares literals. */
const truth = ({ ts }: Project, node: ts.Expression, go: (node: ts.Node) => Values): boolean | null => {
  if (!ts.isBinaryExpression(node)) return null
  const { kind } = node.operatorToken
  const equal = kind === ts.SyntaxKind.EqualsEqualsEqualsToken
  if (!equal && kind !== ts.SyntaxKind.ExclamationEqualsEqualsToken) return null
  const same = isSame(go(node.left), go(node.right))
  return same === null ? null : same === equal
}

const isSame = (left: Values, right: Values): boolean | null => {
  const [a, b] = [left[0], right[0]]
  if (left.length !== 1 || right.length !== 1 || a?._tag !== "Literal" || b?._tag !== "Literal") return null
  return a.value === b.value
}

const fromReturnType = (project: Project, node: ts.SignatureDeclaration, by: string): Values => {
  const signature = project.checker.getSignatureFromDeclaration(node)
  return signature === undefined ? computed(by) : fromType(project, signature.getReturnType(), by)
}
