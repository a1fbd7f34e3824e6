/** A report as text for a terminal of 120 columns, as Markdown, or as JSON. */
import type { Decision, Fault, Report, Where } from "./Report.js"

export const formats = ["text", "json", "markdown"] as const
export type Format = (typeof formats)[number]

/** With `lines: false` Markdown names declarations and files in place of lines, so that it stays when lines move. */
export const render = (
  report: Report,
  format: Format,
  options: { readonly lines: boolean } = { lines: true },
): string => {
  switch (format) {
    case "json":
      return `${JSON.stringify(report, null, 2)}\n`
    case "markdown":
      return markdown(report, options.lines)
    case "text":
      return text(report)
  }
}

/** A fault on one line, as compilers write theirs. */
export const faultLine = ({ detail, verdict, where: { file, line } }: Fault): string =>
  `${line === 0 ? file : `${file}:${line}`} ${verdict}: ${detail}`

const at = ({ file, line }: Where): string => `${file}:${line}`

interface Table {
  readonly head: ReadonlyArray<string>
  readonly rows: ReadonlyArray<ReadonlyArray<string>>
}

/** What both kinds of text show, in their order. */
const sections = (
  report: Report,
  place: (where: Where) => string,
  several: (places: ReadonlyArray<Where>) => string,
) => {
  const decision = ({ level, problem, retryable, storedTag }: Decision) => [retryable, level, storedTag, problem]
  const also = (notes: ReadonlyArray<string>) => notes.join(", ")
  const decided = ["Retryable", "Log level", "Stored tag", "HTTP problem"]
  return {
    places: report.places.map(({ rows, ...rest }) => ({
      ...rest,
      table: {
        head: ["Error", ...decided, "Handler"],
        rows: rows.map((row) => [
          row.tag,
          ...decision(row),
          row.also.length === 0 ? row.handler : `${row.handler}: ${also(row.also)}`,
        ]),
      },
    })),
    forks: {
      head: ["Place", "Effect", "Made by settle"],
      rows: report.forks.map(({ effect, settled, where }) => [place(where), effect, settled ? "yes" : "no"]),
    },
    stored: {
      head: ["Error", ...decided, "Raised"],
      rows: report.stored.map((row) => [row.tag, ...decision(row), several(row.raised)]),
    },
    answered: {
      head: ["Error", "Raised", "Answered"],
      rows: report.answered.map(({ answered, error, raised, reason }) => [
        error,
        several(raised),
        reason === null ? several(answered) : reason,
      ]),
    },
    allowed: {
      head: ["Place", "Word", "Why it stands there"],
      rows: report.allowed.map(({ reason, where, word }) => [place(where), word, reason]),
    },
  }
}

const firstOf = (places: ReadonlyArray<Where>): string => {
  const [first, ...rest] = places.map(at)
  return first === undefined ? "" : rest.length === 0 ? first : `${first} and ${rest.length} more`
}

const filesOf = (places: ReadonlyArray<Where>): string => [...new Set(places.map(({ file }) => file))].sort().join(", ")

const titles = {
  forks: "Forked",
  stored: "Stored without a call of settle",
  answered: "Errors that no job fails with",
  allowed: "Words that the list allows",
} as const
const keys = ["forks", "stored", "answered", "allowed"] as const

const text = (report: Report): string => {
  const found = sections(report, at, firstOf)
  const places = found.places.map(({ defects, interruption, job, table, where, work }) =>
    [
      `${at(where)}  settle, in ${where.within}`,
      `  job           ${job}`,
      `  work          ${work}`,
      `  defects       ${defects}`,
      `  interruption  ${interruption}`,
      ...columns(table).map((line) => `  ${line}`),
    ].join("\n"),
  )
  const others = keys
    .filter((key) => found[key].rows.length > 0)
    .map((key) => [titles[key], ...columns(found[key]).map((line) => `  ${line}`)].join("\n"))
  const faults = report.faults.map(faultLine)
  const end = faults.length === 0 ? "No fault." : [...faults, `${count(faults.length, "fault")}.`].join("\n")
  return `${[...places, ...others, end].join("\n\n")}\n`
}

const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? "" : "s"}`

/** Cells go on in lines of their own: the last column takes what the others leave of a line of 118. */
const columns = ({ head, rows }: Table): ReadonlyArray<string> => {
  if (rows.length === 0) return ["no error: this work cannot fail"]
  const cells = [head, ...rows].map((row) => row.slice(0, -1).map((cell) => wrap(cell, 44)))
  const widths = head
    .slice(0, -1)
    .map((_, column) => Math.max(...cells.flatMap((row) => row[column] ?? []).map(length)))
  const last = Math.max(16, 118 - widths.reduce((sum, width) => sum + width + 2, 0))
  return [head, ...rows].flatMap((row, index) => {
    const all = [...(cells[index] ?? []), wrap(row.at(-1) ?? "", last)]
    const height = Math.max(...all.map(length))
    return Array.from({ length: height }, (_, line) =>
      all
        .map((cell, column) => (cell[line] ?? "").padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
  })
}

const length = ({ length }: { readonly length: number }): number => length

const wrap = (words: string, width: number): ReadonlyArray<string> => {
  const lines: Array<string> = []
  for (const word of words.split(" ")) {
    const line = lines.at(-1)
    if (line !== undefined && line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`
    else lines.push(word)
  }
  return lines
}

const markdown = (report: Report, lines: boolean): string => {
  const place = (where: Where) => (lines ? at(where) : `${where.file}, ${where.within}`)
  const found = sections(report, place, lines ? firstOf : filesOf)
  const places = found.places.map(({ defects, interruption, job, table, where, work }) =>
    [
      `### ${code(lines ? at(where) : where.file)}, in ${code(where.within)}`,
      [`- Job: ${code(job)}`, `- Work: ${code(work)}`, `- Defects: ${defects}`, `- Interruption: ${interruption}`].join(
        "\n",
      ),
      table.rows.length === 0 ? "No error: this work cannot fail." : rowsOf(table, 1),
    ].join("\n\n"),
  )
  const others = keys
    .filter((key) => found[key].rows.length > 0)
    .map((key) => `### ${titles[key]}\n\n${rowsOf(found[key], key === "forks" || key === "allowed" ? 2 : 1)}`)
  const faults = report.faults.map((fault) => `- ${faultLine(fault)}`)
  return [...places, ...others, ...(faults.length === 0 ? [] : [`### Faults\n\n${faults.join("\n")}`])].join("\n\n")
}

const code = (words: string): string => `\`${words.replaceAll("`", "'")}\``

/** The first columns are names of the program. */
const rowsOf = ({ head, rows }: Table, names: number): string => {
  const line = (cells: ReadonlyArray<string>) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`
  const body = rows.map((row) => line(row.map((cell, index) => (index < names ? code(cell) : cell))))
  return [line(head), line(head.map(() => "---")), ...body].join("\n")
}
