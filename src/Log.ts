/**
 * The log as lines of JSON on standard output: what Effect's `Logger.json` writes, for a fraction of its price. Lines
 * are written together, once in a turn of the event loop, and at the end of the process, be it by an uncaught error or by
 * `process.exit`. A SIGKILL takes the lines of the turn with it that it interrupts.
 */
import { writeSync } from "node:fs"
import { Cause, Effect, FiberId, Layer, List, Logger } from "effect"

const standardOutput = 1
/** How long the end of the process waits for a reader of its log that stands still, in milliseconds. */
const patienceMillis = 1000
/** How long it is until a pipe that had no room is tried again, at first and at most, in milliseconds. */
const retryMillis = 5
const longestRetryMillis = 500
/** How much is kept for a reader that stands still, in characters. What comes then is counted and lost. */
const maxWaiting = 4 * 1024 * 1024

/** Takes the place of the lines that were lost. */
const lossLine = (lines: number): string =>
  `${JSON.stringify({
    message: "lines of the log were lost: its reader stood still",
    logLevel: "WARN",
    timestamp: new Date().toISOString(),
    annotations: { module: "Log", lines },
    spans: {},
    fiberId: "",
  })}\n`

/**
 * Writes by itself and not through Node's stream, whose rest is lost where the process ends before its reader has read:
 * what a pipe has no room for is kept here, in order, and known at the end.
 */
const makeWriter = (): ((line: string) => void) => {
  // Who has looked at it has a pipe that does not block.
  process.stdout.on("error", () => {})
  let waiting = ""
  let rest: Uint8Array = Buffer.alloc(0)
  let lost = 0
  let isAsked = false
  let retry = retryMillis

  /** Whether all is written. What waits is made bytes of once, when there is room again. */
  const write = (): boolean => {
    const before = rest.length
    rest = writeSome(rest)
    if (rest.length < before) retry = retryMillis
    if (rest.length > 0) return false
    if (lost > 0) waiting += lossLine(lost)
    lost = 0
    rest = writeSome(Buffer.from(waiting))
    waiting = ""
    return rest.length === 0
  }
  const flush = (): void => {
    isAsked = !write()
    if (!isAsked) return
    setTimeout(flush, retry)
    retry = Math.min(2 * retry, longestRetryMillis)
  }
  process.on("exit", () => {
    const until = performance.now() + patienceMillis
    while (!write() && performance.now() < until) pause(1)
  })
  return (line) => {
    if (!isAsked) setImmediate(flush)
    isAsked = true
    // After a loss nothing more is kept until there is room, so that the lines before and after it are whole.
    if (lost > 0 || waiting.length + rest.length + line.length > maxWaiting) lost++
    else waiting += `${line}\n`
  }
}

/** Writes what there is room for, and gives the rest. Where nobody reads any more, there is none. */
const writeSome = (bytes: Uint8Array): Uint8Array => {
  let rest = bytes
  try {
    while (rest.length > 0) rest = rest.subarray(writeSync(standardOutput, rest))
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) return rest.subarray(rest.length)
  }
  return rest
}

/** Stops the whole process: at its end nothing else is left to wait with. */
const pause = (millis: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis)
}

/** What JSON and Effect write in the same way. */
const isPlain = (value: unknown): boolean =>
  typeof value === "string" || typeof value === "number" || typeof value === "boolean" || value === null

/** A line of the usual kind; `null`: it has something in it that only Effect knows how to write. */
const usualLine = ({ annotations, cause, date, fiberId, logLevel, message, spans }: Logger.Logger.Options<unknown>) => {
  const text = Array.isArray(message) && message.length === 1 ? message[0] : message
  if (typeof text !== "string" || !Cause.isEmpty(cause) || List.isCons(spans)) return null
  const named: Record<string, unknown> = {}
  for (const [name, value] of annotations) {
    if (!isPlain(value)) return null
    named[name] = value
  }
  return JSON.stringify({
    message: text,
    logLevel: logLevel.label,
    timestamp: date.toISOString(),
    annotations: named,
    spans: {},
    fiberId: fiberId._tag === "Runtime" ? `#${fiberId.id}` : FiberId.threadName(fiberId),
  })
}

/** A line, without its end. */
export const line = (options: Logger.Logger.Options<unknown>): string =>
  usualLine(options) ?? Logger.jsonLogger.log(options)

/** Lines of JSON. */
export const json: Layer.Layer<never> = Layer.unwrapEffect(
  Effect.map(Effect.sync(makeWriter), (write) =>
    Logger.replace(
      Logger.defaultLogger,
      Logger.make<unknown, void>((options) => write(line(options))),
    ),
  ),
)
