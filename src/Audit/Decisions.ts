/** What handlers and tables of dispositions decide on each error. */
import type ts from "typescript"
import { dispositions } from "../Job/JobError.js"
import type { Member } from "./Channel.js"
import { isOurs, type Project } from "./Project.js"
import type { Decision } from "./Report.js"
import { apply, evaluate, fromType, type Value, type Values } from "./Value.js"

/** The handler of an error among those given to `settle`: `null` where nothing handles it. */
export const ofHandler = (
  project: Project,
  handlers: ts.Expression,
  { tag, type }: Member & { readonly tag: string },
): (Decision & { readonly handler: string }) | null => {
  const { checker } = project
  if (checker.getTypeAtLocation(handlers).getProperty(tag) === undefined) return null
  const handler = evaluate(project, handlers).flatMap((value) => (value._tag === "Object" ? value.get(tag) : [value]))
  const name = nameOf(project, handlers, handler, tag)
  const error: Value = {
    _tag: "Object",
    typed: true,
    get: (member) => {
      if (member === "_tag") return [{ _tag: "Literal", value: tag }]
      const property = type.getProperty(member)
      return property === undefined ? [] : fromType(project, checker.getTypeOfSymbol(property), name)
    },
  }
  const handled = apply(project, handler, [[error]], name)
  const failure = member(handled, "failure", name)
  /** The handler's name stands beside it. */
  const decides = (values: Values) => say(values).replace(`computed by ${name}`, "computed")
  const storedTag = decides(member(failure, "tag", name))
  return {
    handler: name,
    retryable: decides(member(failure, "retryable", name)),
    level: decides(member(handled, "level", name)),
    storedTag,
    problem: problemOf(storedTag),
    also: [
      ...(canBe(handled, "refused") ? ["may not count as an attempt"] : []),
      ...(canBe(handled, "holdMillis") ? ["may hold the resource"] : []),
    ],
  }
}

/** The tables of the program whose rows are `Disposition`: what each tag in them means. */
export const ofTables = (project: Project): ReadonlyMap<string, Decision> => {
  const { checker, ts } = project
  const found = new Map<string, Decision>()
  const isTable = (node: ts.VariableDeclaration): boolean => {
    const asserted =
      node.initializer !== undefined && ts.isSatisfiesExpression(node.initializer) && node.initializer.type
    const annotation = node.type ?? (asserted || undefined)
    if (annotation === undefined) return false
    const rows = checker.getTypeFromTypeNode(annotation).getProperties()
    return (
      rows.length > 0 &&
      rows.every((row) => {
        const symbol = checker.getTypeOfSymbol(row).symbol
        return symbol?.name === "Disposition" && symbol.declarations?.some((at) => isOurs(at, "Job/JobError"))
      })
    )
  }
  for (const file of project.files) {
    for (const statement of file.statements) {
      if (!ts.isVariableStatement(statement)) continue
      for (const declaration of statement.declarationList.declarations) {
        if (!isTable(declaration) || declaration.initializer === undefined) continue
        const name = declaration.name.getText()
        const table = evaluate(project, declaration.initializer)
        for (const { name: tag } of checker.getTypeAtLocation(declaration).getProperties()) {
          const row = member(table, tag, name)
          found.set(tag, {
            retryable: say(member(row, "retryable", name)),
            level: say(member(row, "level", name)),
            storedTag: tag,
            problem: problemOf(tag),
            also: [],
          })
        }
      }
    }
  }
  return found
}

/** What `settle` makes of a defect: the same for all work. */
export const defects = `stored as Defect: ${dispositions.Defect.level}, ${
  dispositions.Defect.retryable ? "retryable" : "not retryable"
}, /problems/Defect`

/** What `settle` makes of an interruption: the same for all work. */
export const interruption = "stored as cancelled where that was asked for, else back to the queue: Info"

/** The service has a page for each tag of its own table. */
const problemOf = (tag: string): string => (Object.hasOwn(dispositions, tag) ? `/problems/${tag}` : "none")

const member = (values: Values, name: string, by: string): Values =>
  values.flatMap((value): Values => (value._tag === "Object" ? value.get(name) : [{ _tag: "Computed", by }]))

/** Whether a member can be there and anything but `false`; nothing is said of what is computed as a whole. */
const canBe = (handled: Values, name: string): boolean =>
  handled
    .flatMap((value) => (value._tag === "Object" && !value.typed ? value.get(name) : []))
    .some((value) => value._tag !== "Literal" || (value.value !== undefined && value.value !== false))

const say = (values: Values): string => {
  const texts = values.map((value) => {
    if (value._tag === "Computed") return `computed by ${value.by}`
    if (value._tag !== "Literal" || value.value === undefined) return "nothing"
    return typeof value.value === "boolean" ? (value.value ? "yes" : "no") : String(value.value)
  })
  return [...new Set(texts)].join(" or ") || "nothing"
}

/** What a person calls a handler: a function's name, or its tag where it stands in the object itself. */
const nameOf = ({ checker, ts }: Project, handlers: ts.Expression, values: Values, tag: string): string => {
  for (const value of values) {
    if (value._tag !== "Function") continue
    const { name, parent } = value.node
    const named = name ?? (ts.isVariableDeclaration(parent) ? parent.name : undefined)
    return named?.getText() ?? tag
  }
  const property = checker.getTypeAtLocation(handlers).getProperty(tag)?.valueDeclaration
  const given = property !== undefined && ts.isPropertyAssignment(property) ? property.initializer : handlers
  const callee = ts.isCallExpression(given) ? given.expression : given
  return ts.isIdentifier(callee) || ts.isPropertyAccessExpression(callee) ? callee.getText() : tag
}

/** The row of an error that no handler decides on. */
export const undecided = {
  handler: "none",
  retryable: "unhandled",
  level: "unhandled",
  storedTag: "unhandled",
  problem: "none",
  also: [],
} as const
