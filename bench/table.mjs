/** Results as tables in Markdown. */
import { summary } from "./stats.mjs"

const figure = (value) =>
  value >= 100 ? Math.round(value).toLocaleString("en") : value >= 10 ? value.toFixed(1) : value.toFixed(2)

/** The median, its spread where there were rounds, and its ratio to that of the first contender. */
const cell = (rounds, reference) => {
  if (rounds.length === 0) return "–"
  const { least, median, most } = summary(rounds)
  const spread = rounds.length === 1 ? "" : ` (${figure(least)}–${figure(most)})`
  const ratio =
    reference === undefined || reference.median === 0 ? "" : ` **${(median / reference.median).toFixed(2)}×**`
  return `${figure(median)}${spread}${ratio}`
}

/** One line for each figure, one column for each contender that has it; ratios are to the first of them. */
export const table = ({ columns, title }, results, titles) => {
  const names = Object.keys(results)
  if (names.length === 0) return ""
  const of = (name, key) => results[name].flatMap((round) => (round[key] === undefined ? [] : [round[key]]))
  const lines = columns.flatMap(({ key, title: what }) => {
    if (names.every((name) => of(name, key).length === 0)) return []
    const [first, ...others] = names
    const rounds = of(first, key)
    const reference = rounds.length === 0 ? undefined : summary(rounds)
    return [[what, cell(rounds), ...others.map((name) => cell(of(name, key), reference))]]
  })
  const rows = [["", ...names.map((name) => titles[name])], ["---", ...names.map(() => "---")], ...lines]
  return [`### ${title}`, "", ...rows.map((row) => `| ${row.join(" | ")} |`), ""].join("\n")
}
