/**
 * The events of a job's stream, each as the JSON that stands in its `data`. The `id` of an event is its number in the
 * job's log, from 1 without a gap; `done` has the last.
 */
import { Schema } from "effect"
import { Failure, Status, Usage } from "../Job.js"
import { Time } from "./Time.js"

/** The job moved to another state; `attempt` is 0 before the first attempt. */
export const StatusEvent = Schema.Struct({
  status: Status,
  attempt: Schema.Int,
  at: Time,
  error: Schema.NullOr(Failure),
}).annotations({ identifier: "StatusEvent" })

/** Text that an attempt put out. A further attempt begins anew. */
export const OutputEvent = Schema.Struct({ attempt: Schema.Int, text: Schema.String }).annotations({
  identifier: "OutputEvent",
})

/** The job has ended, and the stream with it. */
export const DoneEvent = Schema.Struct({
  status: Status,
  attempt: Schema.Int,
  error: Schema.NullOr(Failure),
  usage: Schema.NullOr(Usage),
  truncated: Schema.Boolean,
}).annotations({ identifier: "DoneEvent" })

/** An event with its `id` and its name: what a reader of the stream makes of it. */
export const JobEvent = Schema.Union(
  Schema.Struct({ id: Schema.Int, type: Schema.Literal("status"), ...StatusEvent.fields }),
  Schema.Struct({ id: Schema.Int, type: Schema.Literal("output"), ...OutputEvent.fields }),
  Schema.Struct({ id: Schema.Int, type: Schema.Literal("done"), ...DoneEvent.fields }),
)
export type JobEvent = typeof JobEvent.Type
