/** The system's codes of errors, such as `EMFILE`. */
import { constants } from "node:os"

/** The code of what Node throws. */
export const codeOf = (error: unknown): string =>
  error instanceof Object && "code" in error && typeof error.code === "string" ? error.code : "UNKNOWN"

/** Where two names have one number, the first one is the usual one. */
const names: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno)
    .reverse()
    .map(([name, number]) => [number, name]),
)

/** The code of a number of the system's own; `null` of one that is none. */
export const nameOf = (number: number): string | null => names.get(number) ?? null
