/** A line of the log from where no fiber runs: a fiber for a line costs more than the line. */
import { Cause, Effect, FiberId, FiberRef, FiberRefs, type HashMap, LogLevel } from "effect"

/** What a line carries beside its message. */
export type Annotations = HashMap.HashMap<string, unknown>

/** Writes lines as `Effect.logInfo` does, with the loggers and the level of the fiber that asks for it. */
export const info: Effect.Effect<(message: string, annotations: Annotations, now: number) => void> = Effect.map(
  Effect.getFiberRefs,
  (context) => {
    const of = <A>(ref: FiberRef.FiberRef<A>): A => FiberRefs.getOrDefault(context, ref)
    if (LogLevel.greaterThan(of(FiberRef.currentMinimumLogLevel), LogLevel.Info)) return () => {}
    const loggers = [...of(FiberRef.currentLoggers)]
    const spans = of(FiberRef.currentLogSpan)
    return (message, annotations, now) => {
      const options = {
        fiberId: FiberId.unsafeMake(),
        logLevel: LogLevel.Info,
        message: [message],
        cause: Cause.empty,
        context,
        spans,
        annotations,
        date: new Date(now),
      }
      for (const logger of loggers) logger.log(options)
    }
  },
)
