/**
 * A job's life as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): `status`,
 * `output` and at the end `done`. Event ids are the numbers of the job's log, so that `Last-Event-ID` resumes the
 * stream with nothing lost or repeated, also after a restart.
 */
import { HttpServerResponse } from "@effect/platform"
import { Context, Effect, Layer, Schedule, Stream } from "effect"
import { EventsHeaders } from "../Api.js"
import { type Event, isTerminal, type Job } from "../Job.js"
import { set } from "../Metrics.js"
import { Offload } from "../Offload.js"
import { OffloadConfig } from "../OffloadConfig.js"
import { ownJob } from "./Caller.js"
import { requestHeaders } from "./Jobs.js"
import { Problem } from "./Problem.js"

const heartbeatSeconds = 15

/** The event streams that are open. */
export class EventStreams extends Context.Tag("effect-offload/EventStreams")<
  EventStreams,
  {
    /** Ends every open stream, and those that are opened after. Their readers resume elsewhere. */
    readonly end: Effect.Effect<void>
    /** Whether no more may be open, of all callers or of this one. */
    readonly areFull: (caller: string) => boolean
    /** Counts a stream while it is read, and ends it when all are to end. */
    readonly track: (caller: string) => <A, E, R>(stream: Stream.Stream<A, E, R>) => Stream.Stream<A, E, R>
  }
>() {
  static readonly layer: Layer.Layer<EventStreams, never, OffloadConfig> = Layer.effect(
    EventStreams,
    Effect.gen(function* () {
      const { maxStreams, maxStreamsPerCaller } = yield* OffloadConfig
      const ended = yield* Effect.makeLatch(false)
      const open = new Map<string, number>()
      let all = 0

      const count = (caller: string, change: 1 | -1) =>
        Effect.sync(() => {
          all += change
          set("offload_event_streams", {}, all)
          const now = (open.get(caller) ?? 0) + change
          if (now > 0) open.set(caller, now)
          else open.delete(caller)
        })

      return {
        end: Effect.asVoid(ended.open),
        areFull: (caller) =>
          all >= maxStreams || (maxStreamsPerCaller !== null && (open.get(caller) ?? 0) >= maxStreamsPerCaller),
        track: (caller) => (stream) => {
          const place = Effect.acquireRelease(count(caller, 1), () => count(caller, -1))
          return Stream.unwrapScoped(Effect.as(place, Stream.interruptWhen(stream, ended.await)))
        },
      }
    }),
  )
}

/** Refuses a stream above `OFFLOAD_MAX_STREAMS`, or above those that the caller may have. */
export const requireStream = (caller: string) =>
  Effect.flatMap(EventStreams, ({ areFull }) =>
    areFull(caller)
      ? new Problem({
          slug: "too-many-streams",
          detail: "No further event stream can be opened now.",
          headers: { "retry-after": "5" },
        })
      : Effect.void,
  )

/** Answers with server-sent events, counted as an open stream, with a heartbeat between them. */
export const eventStream = <E>(caller: string, messages: Stream.Stream<string, E>) =>
  Effect.map(EventStreams, ({ track }) =>
    HttpServerResponse.stream(
      Stream.merge(messages, heartbeat, { haltStrategy: "left" }).pipe(track(caller), Stream.encodeText),
      {
        contentType: "text/event-stream",
        headers: { "cache-control": "no-store", "x-accel-buffering": "no" },
      },
    ),
  )

export const jobEvents = Effect.gen(function* () {
  const offload = yield* Offload
  const after = (yield* requestHeaders(EventsHeaders))["last-event-id"] ?? 0
  const job = yield* ownJob
  const { id } = job

  // The reader has everything, `done` included: 204 tells an EventSource not to come again.
  if (isTerminal(job.status) && after > job.events) return HttpServerResponse.empty({ status: 204 })
  yield* requireStream(job.caller)

  const events = offload
    .events(id, Math.min(after, job.events))
    .pipe(Stream.map(encode), Stream.concat(Stream.fromEffect(Effect.map(offload.job(id), done))))
  return yield* eventStream(job.caller, Stream.concat(Stream.make("retry: 1000\n\n"), events))
})

const heartbeat = Stream.as(Stream.fromSchedule(Schedule.spaced(heartbeatSeconds * 1000)), ": heartbeat\n\n")

const encode = (event: Event): string => {
  switch (event.type) {
    case "status":
      return message(event.event, "status", {
        status: event.status,
        attempt: event.attempt,
        at: new Date(event.at).toISOString(),
        error: event.error,
      })
    case "output":
      return message(event.event, "output", { attempt: event.attempt, text: event.text })
  }
}

/** Its id is one more than the last of the log, so that a reader that has it is told apart from one that has not. */
const done = (job: Job): string =>
  message(job.events + 1, "done", {
    status: job.status,
    attempt: job.attempt,
    error: job.error,
    usage: job.usage,
    truncated: job.truncated,
  })

const message = (id: number, event: string, data: unknown): string =>
  `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`
