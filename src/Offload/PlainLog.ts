/** A line of the log from where no fiber runs: a fiber for a line costs more than the line. */
import { Cause, Effect, FiberId, FiberRef, FiberRefs, HashMap, LogLevel } from "effect"

type Annotations = Readonly<Record<string, unknown>>

/** Writes lines as `Effect.logInfo` does, with the loggers, the level and the annotations of the fiber that asks for it. */
export const info: Effect.Effect<(message: string, annotations: Annotations, now: number) => void> = Effect.map(
  Effect.getFiberRefs,
  (context) => {
    const of = <A>(ref: FiberRef.FiberRef<A>): A => FiberRefs.getOrDefault(context, ref)
    if (LogLevel.greaterThan(of(FiberRef.currentMinimumLogLevel), LogLevel.Info)) return () => {}
    const loggers = [...of(FiberRef.currentLoggers)]
    const spans = of(FiberRef.currentLogSpan)
    const own = of(FiberRef.currentLogAnnotations)
    return (message, annotations, now) => {
      const options = {
        fiberId: FiberId.unsafeMake(),
        logLevel: LogLevel.Info,
        message: [message],
        cause: Cause.empty,
        context,
        spans,
        annotations: HashMap.mutate(own, (all) => {
          for (const name in annotations) HashMap.set(all, name, annotations[name])
        }),
        date: new Date(now),
      }
      for (const logger of loggers) logger.log(options)
    }
  },
)
