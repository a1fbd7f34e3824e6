/** The metrics that are read and not counted: brought up to date when somebody asks for them. */
import { Effect } from "effect"
import { Status } from "../Job.js"
import { watch } from "../Metrics/Process.js"
import { set } from "../Metrics.js"
import { Offload, type StoreError } from "../Offload.js"

const readProcess = watch()

/** Reads resources, jobs and the process. */
export const sample: Effect.Effect<void, StoreError, Offload> = Effect.gen(function* () {
  const { counts, resources } = yield* Offload
  for (const { heldUntil, name, permits, running } of yield* resources) {
    set("offload_permits", { resource: name }, permits)
    set("offload_permits_in_use", { resource: name }, running)
    set("offload_resource_held", { resource: name }, heldUntil === null ? 0 : 1)
  }
  for (const [resource, row] of yield* counts) {
    for (const status of Status.literals) set("offload_jobs", { resource, status }, row[status])
  }
  readProcess()
})
