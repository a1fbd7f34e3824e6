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

const makeWriter = (): ((line: string) => void) => {
  let waiting = ""
  const take = () => {
    const text = waiting
    waiting = ""
    return text
  }
  const flush = () => {
    if (waiting !== "") process.stdout.write(take())
  }
  process.on("exit", () => {
    // What a slow reader has left over of earlier lines is lost here, and these must not come before it.
    if (process.stdout.writableLength > 0) flush()
    else writeNow(Buffer.from(take()))
  })
  return (line) => {
    if (waiting === "") setImmediate(flush)
    waiting += `${line}\n`
  }
}

/** Node's own stream would write the rest of a text that a pipe has no room for after the end. */
const writeNow = (bytes: Uint8Array): void => {
  const until = performance.now() + patienceMillis
  let rest = bytes
  while (rest.length > 0 && performance.now() < until) {
    try {
      rest = rest.subarray(writeSync(standardOutput, rest))
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) return
    }
  }
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
    fiberId: FiberId.threadName(fiberId),
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
