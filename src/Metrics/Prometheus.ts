/** The text format of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/), version 0.0.4. */
import { Metric, type MetricLabel, MetricState } from "effect"
import { isMetricName, type MetricName, metrics } from "../Metrics.js"

export const contentType = "text/plain; version=0.0.4; charset=utf-8"

type Labels = ReadonlyArray<readonly [name: string, value: string]>

const escaped = (text: string): string => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"')

const line = (name: string, labels: Labels, value: number): string => {
  const all = labels.map(([label, text]) => `${label}="${escaped(text)}"`).join(",")
  return `${name}${all === "" ? "" : `{${all}}`} ${value === Number.POSITIVE_INFINITY ? "+Inf" : value}`
}

const samples = (name: string, labels: Labels, state: MetricState.MetricState.Untyped): ReadonlyArray<string> => {
  if (MetricState.isCounterState(state)) return [line(name, labels, Number(state.count))]
  if (MetricState.isGaugeState(state)) return [line(name, labels, Number(state.value))]
  if (!MetricState.isHistogramState(state)) return []
  const buckets = state.buckets
    .filter(([bound]) => Number.isFinite(bound))
    .map(([bound, count]) => line(`${name}_bucket`, [...labels, ["le", String(bound)]], count))
  return [
    ...buckets,
    line(`${name}_bucket`, [...labels, ["le", "+Inf"]], state.count),
    line(`${name}_sum`, labels, state.sum),
    line(`${name}_count`, labels, state.count),
  ]
}

const labelsOf = (tags: ReadonlyArray<MetricLabel.MetricLabel>): Labels => tags.map(({ key, value }) => [key, value])

/** Every metric of the table that has a value, in the order of the table. */
export const render = (): string => {
  const found = new Map<MetricName, Array<string>>()
  for (const { metricKey, metricState } of Metric.unsafeSnapshot()) {
    if (!isMetricName(metricKey.name)) continue
    const lines = found.get(metricKey.name) ?? []
    lines.push(...samples(metricKey.name, labelsOf(metricKey.tags), metricState))
    found.set(metricKey.name, lines)
  }
  return Object.keys(metrics)
    .filter(isMetricName)
    .flatMap((name) => {
      const lines = found.get(name)
      const { doc, kind } = metrics[name]
      return lines === undefined ? [] : [`# HELP ${name} ${escaped(doc)}`, `# TYPE ${name} ${kind}`, ...lines]
    })
    .map((text) => `${text}\n`)
    .join("")
}
