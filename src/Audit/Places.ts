/** The calls of `settle` and `fork`, whatever they are called by: where work is settled, and with which errors. */
import type ts from "typescript"
import { errorType, members, vague } from "./Channel.js"
import * as Decisions from "./Decisions.js"
import { brief, isOurs, type Project, symbolAt, whereIs } from "./Project.js"
import type { Fault, Fork, Place, Row } from "./Report.js"

export interface Places {
  readonly places: ReadonlyArray<Place>
  readonly forks: ReadonlyArray<Fork>
  /** The types that stand in a channel, so that an error class can be looked up in them. */
  readonly settled: ReadonlySet<ts.Symbol>
  readonly tags: ReadonlySet<string>
  readonly faults: ReadonlyArray<Fault>
}

export const find = (project: Project, calls: ReadonlyArray<ts.CallExpression>): Places => {
  const places: Array<Place> = []
  const forks: Array<Fork> = []
  const faults: Array<Fault> = []
  const settled = new Set<ts.Symbol>()
  const tags = new Set<string>()

  const settle = (call: ts.CallExpression): void => {
    const [job, work, handlers] = call.arguments
    if (job === undefined || work === undefined || handlers === undefined) return
    const where = whereIs(project, call)
    const fault = (verdict: Fault["verdict"], detail: string) => faults.push({ where, verdict, detail })
    const type = project.checker.getTypeAtLocation(work)
    const channel = errorType(project, type) ?? type
    const rows: Array<Row> = []
    for (const { tag, type } of members(project, channel)) {
      const says = vague(project, type)
      if (says !== null || tag === null) {
        rows.push({ tag: says ?? project.checker.typeToString(type), ...Decisions.undecided })
        fault(
          "untyped",
          `the work of \`settle\` can fail with ${says ?? project.checker.typeToString(type)}, which has no tag`,
        )
        continue
      }
      tags.add(tag)
      if (type.symbol !== undefined) settled.add(type.symbol)
      const decision = Decisions.ofHandler(project, handlers, { tag, type })
      if (decision === null) fault("no-handler", `nothing handles ${tag}, which the work can fail with`)
      rows.push({ tag, ...(decision ?? Decisions.undecided) })
    }
    places.push({
      where,
      job: brief(job),
      work: brief(work),
      rows,
      defects: Decisions.defects,
      interruption: Decisions.interruption,
    })
  }

  const fork = (call: ts.CallExpression): void => {
    const [effect] = call.arguments
    if (effect === undefined) return
    const where = whereIs(project, call)
    const settled = isSettled(project, effect)
    forks.push({ where, effect: brief(effect), settled })
    if (!settled) {
      faults.push({
        where,
        verdict: "not-settled",
        detail: `\`fork\` starts ${brief(effect, 48)}, which \`settle\` did not make`,
      })
    }
  }

  for (const call of calls) {
    const name = nameOfOurs(project, call.expression)
    if (name === "settle") settle(call)
    if (name === "fork") fork(call)
  }
  return { places, forks, settled, tags, faults }
}

/** Whether `settle` made it, as its type says before anybody asserts another one. */
const isSettled = ({ checker, ts }: Project, effect: ts.Expression): boolean => {
  let made = effect
  while (ts.isAsExpression(made) || ts.isParenthesizedExpression(made)) made = made.expression
  const { symbol } = checker.getTypeAtLocation(made)
  return symbol?.name === "Settled" && symbol.declarations?.some((at) => isOurs(at, "Offload/Settle")) === true
}

/** The function of Settle.ts that is called: imported, re-exported, of a namespace, or under a constant's name. */
const nameOfOurs = (project: Project, callee: ts.Expression): string | null => {
  const { ts } = project
  const name = ts.isPropertyAccessExpression(callee) ? callee.name : callee
  if (!ts.isIdentifier(name)) return null
  // The type of what stands before the dot is found out for these names alone: for every call it would take seconds.
  if (name !== callee && name.text !== "settle" && name.text !== "fork") return null
  const symbol = symbolAt(project, name)
  const declaration = symbol?.valueDeclaration
  if (symbol === undefined || declaration === undefined) return null
  if (isOurs(declaration, "Offload/Settle")) return symbol.name
  const isConst = ts.isVariableDeclaration(declaration) && ts.getCombinedNodeFlags(declaration) & ts.NodeFlags.Const
  const from = isConst ? declaration.initializer : undefined
  return from !== undefined && (ts.isIdentifier(from) || ts.isPropertyAccessExpression(from))
    ? nameOfOurs(project, from)
    : null
}
