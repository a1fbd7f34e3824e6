/** What the process says of itself, read when somebody asks. */
import { monitorEventLoopDelay } from "node:perf_hooks"
import { add, set } from "../Metrics.js"

/** Looks at the event loop so many times a second: often enough for 10 ms, seldom enough to cost nothing. */
const resolution = 10

const seconds = (nanoseconds: number): number => nanoseconds / 1e9

/** Begins to watch; the function that it returns brings the metrics up to date. */
export const watch = (): (() => void) => {
  const delay = monitorEventLoopDelay({ resolution })
  delay.enable()
  let before = 0
  set("process_start_time_seconds", {}, Math.round(performance.timeOrigin) / 1000)
  return () => {
    // The histogram counts the time of a turn from one look to the next, which is never less than the resolution.
    const late = (nanoseconds: number) => Math.max(0, seconds(nanoseconds) - resolution / 1000)
    set("offload_event_loop_delay_seconds", { percentile: "50" }, late(delay.percentile(50)))
    set("offload_event_loop_delay_seconds", { percentile: "99" }, late(delay.percentile(99)))
    set("offload_event_loop_delay_seconds", { percentile: "100" }, late(delay.max))
    delay.reset()
    set("process_resident_memory_bytes", {}, process.memoryUsage.rss())
    const { system, user } = process.cpuUsage()
    const cpu = (system + user) / 1e6
    add("process_cpu_seconds_total", {}, cpu - before)
    before = cpu
  }
}
