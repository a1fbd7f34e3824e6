/**
 * Server-sent events on the wire: one fiber a reader, which writes what it has read of the log and waits while the
 * reader takes it. Nothing else is held for a reader, so that thousands can be open, and go away at once.
 */
import type { ServerResponse } from "node:http"
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { NodeHttpServerRequest } from "@effect/platform-node"
import { Context, Effect, Fiber, Layer, Schedule, type Scope } from "effect"
import { set } from "../Metrics.js"
import { OffloadConfig } from "../OffloadConfig.js"
import { Caller, isCurrent } from "./Caller.js"
import { corsFields } from "./Cors.js"
import { Keyring } from "./Keyring.js"
import { inSlices } from "./Slices.js"
import { Unread } from "./Unread.js"

const heartbeatSeconds = 15

interface Reader {
  readonly caller: Caller["Type"]
  readonly response: ServerResponse
  readonly fiber: Fiber.RuntimeFiber<unknown, unknown>
}

/** The event streams that are open. */
export class EventStreams extends Context.Tag("effect-offload/EventStreams")<
  EventStreams,
  {
    /** Ends every open stream, and those that are opened after. Their readers resume elsewhere. */
    readonly end: Effect.Effect<void>
    /** Ends the streams whose key is no longer that of their caller; answers how many. */
    readonly endRevoked: Effect.Effect<number>
    /** Knows a stream of the current fiber for as long as the scope lasts, and gives its reader a heartbeat. */
    readonly open: (caller: Caller["Type"], response: ServerResponse) => Effect.Effect<void, never, Scope.Scope>
  }
>() {
  static readonly layer: Layer.Layer<EventStreams, never, Keyring> = Layer.scoped(
    EventStreams,
    Effect.gen(function* () {
      const keyring = yield* Keyring
      const readers = new Set<Reader>()
      let ended = false

      // One timer for all: each reader hears of it within the time, whenever it came.
      yield* Effect.sync(() => {
        for (const { response } of readers) if (!response.writableNeedDrain) response.write(": heartbeat\n\n")
      }).pipe(Effect.schedule(Schedule.spaced(heartbeatSeconds * 1000)), Effect.forkScoped)

      const endAll = (found: ReadonlyArray<Reader>) =>
        Effect.forEach(found, ({ fiber }) => Fiber.interruptFork(fiber), { discard: true })

      return {
        end: Effect.suspend(() => {
          ended = true
          return endAll([...readers])
        }),
        endRevoked: Effect.suspend(() => {
          const revoked = [...readers].filter(({ caller }) => !isCurrent(caller, keyring.callers()))
          return Effect.as(endAll(revoked), revoked.length)
        }),
        open: (caller, response) =>
          Effect.withFiberRuntime((fiber) =>
            Effect.asVoid(
              Effect.acquireRelease(
                Effect.suspend(() => {
                  const reader: Reader = { caller, response, fiber }
                  readers.add(reader)
                  set("offload_event_streams", {}, readers.size)
                  // Its key may have been removed since the call began.
                  const isOver = ended || !isCurrent(caller, keyring.callers())
                  return isOver ? Effect.interrupt : Effect.succeed(reader)
                }),
                (reader) =>
                  Effect.sync(() => {
                    readers.delete(reader)
                    set("offload_event_streams", {}, readers.size)
                  }),
              ),
            ),
          ),
      }
    }),
  )
}

/** The next messages of a stream, joined; `null` at its end. */
export type Pull<E> = Effect.Effect<string | null, E>

/**
 * Answers with server-sent events. Ends the answer itself, at the end of the messages. The place of the stream is taken
 * before: see `Admission.stream`.
 */
export const eventStream = <E extends { readonly message: string }>(pull: Pull<E>) =>
  Effect.gen(function* () {
    const caller = yield* Caller
    const request = yield* HttpServerRequest.HttpServerRequest
    const { corsOrigins } = yield* OffloadConfig
    const headers = {
      "content-type": "text/event-stream",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
      ...corsFields(request, corsOrigins),
    }
    if (request.method === "HEAD") return HttpServerResponse.empty({ status: 200, headers })

    const response = NodeHttpServerRequest.toServerResponse(request)
    yield* (yield* EventStreams).open(caller, response)
    response.writeHead(200, headers)
    const { hold } = yield* Unread
    yield* pump(pull, response, (bytes) => hold(caller, bytes)).pipe(
      // The reader comes again, and is told then what is wrong.
      Effect.catchAll((error) =>
        Effect.logWarning("an event stream was cut").pipe(
          Effect.annotateLogs({ module: "Http", error: error.message }),
        ),
      ),
      Effect.ensuring(Effect.sync(() => response.end())),
    )
    return HttpServerResponse.empty()
  }).pipe(Effect.scoped, inSlices)

/** The reader stands still beside too many others of its caller: it may resume where it is. */
const tooMuchWaits = { message: "too many bytes wait for the caller's readers" }

type Hold = (bytes: number) => (() => void) | null

const pump = <E>(pull: Pull<E>, response: ServerResponse, hold: Hold): Effect.Effect<void, E | typeof tooMuchWaits> =>
  Effect.flatMap(pull, (text) => {
    if (text === null) return Effect.void
    const next = pump(pull, response, hold)
    if (text === "" || response.write(text)) return next
    const release = hold(response.writableLength)
    if (release !== null) return Effect.zipRight(Effect.ensuring(drained(response), Effect.sync(release)), next)
    // What it was given is in its socket, and goes with it.
    response.destroy()
    return Effect.fail(tooMuchWaits)
  })

/** Waits until the reader has taken what was written. One that goes away interrupts the fiber. */
const drained = (response: ServerResponse): Effect.Effect<void> =>
  Effect.async((resume) => {
    const onDrain = () => resume(Effect.void)
    response.once("drain", onDrain)
    return Effect.sync(() => response.off("drain", onDrain))
  })
