/** Error channels: what the compiler knows that an effect can fail with. */
import type ts from "typescript"
import type { Project } from "./Project.js"

/** A member of an error channel. `tag` is `null` for one that is `any`, `unknown`, `Error` or has no literal tag. */
export interface Member {
  readonly type: ts.Type
  readonly tag: string | null
}

/** Effect, Stream and Layer carry their error type as `_E` under a symbol of their own; subtypes inherit it. */
const typeId = /^__@(EffectTypeId|StreamTypeId|LayerTypeId)@/

/** The error type of an effect, a stream, a layer, or any subtype of them; `null` for anything else. */
export const errorType = ({ checker }: Project, type: ts.Type): ts.Type | null => {
  for (const property of type.getProperties()) {
    if (!typeId.test(property.name)) continue
    const variance = checker.getTypeOfSymbol(property).getProperty("_E")
    if (variance === undefined) continue
    // `Covariant<E>` is a function that answers an E; `Variance` of an error itself may be a union of such.
    const [signature] = checker.getTypeOfSymbol(variance).getCallSignatures()
    if (signature !== undefined) return signature.getReturnType()
  }
  return null
}

/** The members of an error type, in the order of their tags' declaration. `never` has none. */
export const members = (project: Project, error: ts.Type): ReadonlyArray<Member> => {
  const { ts } = project
  if (error.flags & ts.TypeFlags.Never) return []
  return (error.isUnion() ? error.types : [error]).map((type) => ({ type, tag: tagOf(project, type) }))
}

/** The literal `_tag` of a type, where it has one. */
export const tagOf = ({ checker }: Project, type: ts.Type): string | null => {
  const property = type.getProperty("_tag")
  const tag = property === undefined ? undefined : checker.getTypeOfSymbol(property)
  return tag?.isStringLiteral() ? tag.value : null
}

/** `any`, `unknown` or `Error` where a type is that and says no more; else `null`. */
export const vague = ({ program, ts }: Project, type: ts.Type): "any" | "unknown" | "Error" | null => {
  if (type.flags & ts.TypeFlags.Any) return "any"
  if (type.flags & ts.TypeFlags.Unknown) return "unknown"
  const isError =
    type.symbol?.name === "Error" &&
    type.symbol.declarations?.some((node) => program.isSourceFileDefaultLibrary(node.getSourceFile()))
  return isError ? "Error" : null
}
