/** A job's stream as a reader wants it: one stream, whatever happens to the connections under it. */
import { type HttpClient, HttpClientRequest, HttpClientResponse } from "@effect/platform"
import { Duration, Effect, Schedule, Schema, Stream } from "effect"
import { createParser, type EventSourceMessage } from "eventsource-parser"
import { JobEvent } from "../Api/Event.js"
import { AnyCallProblem, JobEventsProblem } from "../Api.js"
import {
  type ApiProblem,
  isPassing,
  type SlugOf,
  TransportError,
  toFailure,
  toTransportError,
  unexpected,
} from "./Failure.js"

/** What the stream can be answered with. */
export type EventsProblem = ApiProblem<SlugOf<typeof AnyCallProblem.Type | typeof JobEventsProblem.Type>>

/** The service sends a heartbeat each 15 s: a connection that is silent for longer than this is dead. */
const silence = Duration.seconds(45)

/** What comes of a connection. */
type Piece =
  /** It stands: what went wrong before is over. */
  | { readonly _tag: "Opened" }
  | { readonly _tag: "Event"; readonly event: JobEvent }
  /** The reader has had everything. */
  | { readonly _tag: "Nothing" }

/**
 * The events of a job after number `after`, to `done`. A connection that breaks, ends early or falls silent is made
 * again after the time that the service asked for (`retry`), from the event after the last: nothing is lost or
 * repeated. Fails when no connection could be made for as long as `patience`.
 */
export const events = (
  http: HttpClient.HttpClient,
  id: string,
  options: { readonly after: number; readonly patience: Duration.Duration },
): Stream.Stream<JobEvent, EventsProblem | TransportError> =>
  Stream.suspend(() => {
    const position = { last: options.after, retryMillis: 1000 }
    const pause = () => Duration.millis(position.retryMillis)
    const connection = Stream.suspend(() => connect(http, id, position))
    return connection.pipe(
      // Begins anew with each connection that stands.
      Stream.retry(
        Schedule.elapsed.pipe(
          Schedule.whileOutput(Duration.lessThan(options.patience)),
          Schedule.addDelay(pause),
          Schedule.whileInput(isPassing),
        ),
      ),
      Stream.repeat(Schedule.addDelay(Schedule.forever, pause)),
      Stream.takeUntil((piece) => piece._tag === "Nothing" || (piece._tag === "Event" && piece.event.type === "done")),
      Stream.mapConcat((piece) => (piece._tag === "Event" ? [piece.event] : [])),
    )
  })

const connect = (
  http: HttpClient.HttpClient,
  id: string,
  position: { last: number; retryMillis: number },
): Stream.Stream<Piece, EventsProblem | TransportError> =>
  HttpClientRequest.get(`/jobs/${encodeURIComponent(id)}/events`).pipe(
    HttpClientRequest.setHeaders({ accept: "text/event-stream", "last-event-id": String(position.last) }),
    http.execute,
    Effect.mapError(toTransportError),
    Effect.timeoutFail({ duration: silence, onTimeout: silent }),
    Effect.flatMap(
      HttpClientResponse.matchStatus({
        200: (response) =>
          Effect.succeed(
            response.stream.pipe(
              Stream.mapError(toTransportError),
              Stream.timeoutFail(silent, silence),
              Stream.decodeText("utf-8"),
              read(position),
              Stream.map((event): Piece => ({ _tag: "Event", event })),
              (pieces) => Stream.concat(Stream.make<[Piece]>({ _tag: "Opened" }), pieces),
            ),
          ),
        204: () => Effect.succeed(Stream.make<[Piece]>({ _tag: "Nothing" })),
        orElse: (response) => Effect.flatMap(decodeProblem(response), Effect.fail).pipe(Effect.mapError(toFailure)),
      }),
    ),
    Stream.unwrap,
  )

const silent = () => new TransportError({ reason: "unreachable", detail: "The service has fallen silent." })

const decodeProblem = HttpClientResponse.schemaBodyJson(Schema.Union(AnyCallProblem, JobEventsProblem))

/** The events of a connection, after those that the reader has. */
const read =
  (position: { last: number; retryMillis: number }) =>
  <E>(text: Stream.Stream<string, E>): Stream.Stream<JobEvent, E | TransportError> =>
    Stream.suspend(() => {
      let messages: Array<EventSourceMessage> = []
      const parser = createParser({
        onEvent: (message) => messages.push(message),
        onRetry: (millis) => {
          position.retryMillis = millis
        },
      })
      return Stream.mapConcatEffect(text, (chunk) =>
        Effect.gen(function* () {
          parser.feed(chunk)
          const found = messages
          messages = []
          const events = yield* Effect.forEach(found.filter(isKnown), decode)
          const fresh = events.filter(({ id }) => id > position.last)
          position.last = fresh.at(-1)?.id ?? position.last
          return fresh
        }),
      )
    })

/** Later versions may tell of more: a reader that does not know an event passes it by. */
const isKnown = ({ event }: EventSourceMessage): boolean => event === "status" || event === "output" || event === "done"

const decode = ({ data, event, id }: EventSourceMessage): Effect.Effect<JobEvent, TransportError> =>
  decodeData(data).pipe(
    Effect.flatMap((fields) => decodeEvent({ ...fields, id: Number(id), type: event })),
    Effect.mapError(unexpected),
  )

const decodeData = Schema.decode(Schema.parseJson(Schema.Record({ key: Schema.String, value: Schema.Unknown })))
const decodeEvent = Schema.decodeUnknown(JobEvent)
