/**
 * Everything that the service counts: the one table of names. `GET /metrics` writes it in Prometheus' format, and OTLP
 * exports it where that is set up. Names follow https://prometheus.io/docs/practices/naming/.
 */
import { Metric, MetricBoundaries, MetricLabel } from "effect"

type Kind = "counter" | "gauge" | "histogram"

/** What a metric is, as it is documented. */
export interface Documentation {
  readonly kind: Kind
  readonly labels: ReadonlyArray<string>
  readonly doc: string
}

/** Every metric. */
export const metrics = {
  offload_jobs: {
    kind: "gauge",
    labels: ["resource", "status"],
    doc: "Jobs that the store has, by their state; those that have ended until their retention ends.",
  },
  offload_jobs_submitted_total: { kind: "counter", labels: ["resource"], doc: "Jobs that were saved." },
  offload_jobs_ended_total: {
    kind: "counter",
    labels: ["resource", "status", "error"],
    doc: "Jobs that reached a terminal state; `error` is the tag of the failure, or empty.",
  },
  offload_attempts_ended_total: {
    kind: "counter",
    labels: ["resource", "outcome", "error"],
    doc: "Attempts that ended, by outcome and the tag of their failure.",
  },
  offload_permits: {
    kind: "gauge",
    labels: ["resource"],
    doc: "Permits of a resource: how many jobs may run at once.",
  },
  offload_permits_in_use: { kind: "gauge", labels: ["resource"], doc: "Permits that are taken." },
  offload_resource_held: {
    kind: "gauge",
    labels: ["resource"],
    doc: "1 while a used-up quota holds the resource, else 0.",
  },
  offload_wait_seconds: {
    kind: "histogram",
    labels: ["resource"],
    doc: "From a job's submission to the start of its first attempt.",
  },
  offload_service_seconds: { kind: "histogram", labels: ["resource"], doc: "How long an attempt ran." },
  offload_children: { kind: "gauge", labels: [], doc: "Process trees of attempts that are alive." },
  offload_store_seconds: {
    kind: "histogram",
    labels: ["operation"],
    doc: "How long an operation of the store took, until it was durable.",
  },
  offload_event_streams: { kind: "gauge", labels: [], doc: "Event streams that are open." },
  offload_http_requests_total: { kind: "counter", labels: ["method", "status"], doc: "Requests that were answered." },
  offload_event_loop_delay_seconds: {
    kind: "gauge",
    labels: ["percentile"],
    doc: "How late the event loop was since the last reading: its median, 99th percentile and longest delay.",
  },
  process_resident_memory_bytes: { kind: "gauge", labels: [], doc: "Resident memory of the service itself." },
  process_cpu_seconds_total: {
    kind: "counter",
    labels: [],
    doc: "Processor time of the service itself, in user and system mode.",
  },
  process_start_time_seconds: { kind: "gauge", labels: [], doc: "When the service started, since the epoch." },
} as const satisfies Record<string, Documentation>

export type MetricName = keyof typeof metrics
type Named<K extends Kind> = {
  [N in MetricName]: (typeof metrics)[N]["kind"] extends K ? N : never
}[MetricName]
type Labels<N extends MetricName> = { readonly [L in (typeof metrics)[N]["labels"][number]]: string }

/** Seconds: from a write to the disk up to an hour of work. */
const boundaries = MetricBoundaries.fromIterable([
  0.001, 0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600,
])

type Update = (value: number) => void

/** The series that there are so far. A label's values are few: resources, states, tags, operations. */
const series = new Map<string, Update>()

const create = (name: MetricName, labels: Readonly<Record<string, string>>): Update => {
  const { doc, kind } = metrics[name]
  const tags = Object.entries(labels).map(([key, value]) => MetricLabel.make(key, value))
  switch (kind) {
    case "counter": {
      const counter = Metric.taggedWithLabels(Metric.counter(name, { description: doc, incremental: true }), tags)
      return (value) => counter.unsafeUpdate(value, [])
    }
    case "gauge": {
      const gauge = Metric.taggedWithLabels(Metric.gauge(name, { description: doc }), tags)
      return (value) => gauge.unsafeUpdate(value, [])
    }
    case "histogram": {
      const histogram = Metric.taggedWithLabels(Metric.histogram(name, boundaries, doc), tags)
      return (value) => histogram.unsafeUpdate(value, [])
    }
  }
}

const update = (name: MetricName, labels: Readonly<Record<string, string>>, value: number): void => {
  const key = Object.values(labels).reduce((key, label) => `${key}\n${label}`, name)
  let found = series.get(key)
  if (found === undefined) {
    found = create(name, labels)
    series.set(key, found)
  }
  found(value)
}

/** Adds to a counter. */
export const add = <N extends Named<"counter">>(name: N, labels: Labels<N>, by = 1): void => update(name, labels, by)

/** Sets a gauge. */
export const set = <N extends Named<"gauge">>(name: N, labels: Labels<N>, value: number): void =>
  update(name, labels, value)

/** Adds an observation to a histogram, in seconds. */
export const observe = <N extends Named<"histogram">>(name: N, labels: Labels<N>, seconds: number): void =>
  update(name, labels, seconds)

/** Whether a name is one of the table. */
export const isMetricName = (name: string): name is MetricName => Object.hasOwn(metrics, name)
