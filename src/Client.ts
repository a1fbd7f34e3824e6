/**
 * A client of the service, for programs elsewhere: Node or a browser. It needs an `HttpClient` of `@effect/platform`
 * and knows the contract alone, nothing of the server.
 *
 * ```ts
 * const client = yield* OffloadClient
 * const job = yield* client.submit({ prompt: "Why is the sky blue?" })
 * const ended = yield* client.wait(job.id)
 * ```
 *
 * A call fails with an `ApiProblem` when the service says no, and with a `TransportError` when it says nothing that the
 * contract knows. While the service restarts or its store is out of reach, calls that are safe to repeat are repeated
 * for as long as `patience`: all of them but `remove`.
 */
import { HttpApiClient, HttpClient, HttpClientRequest } from "@effect/platform"
import { Chunk, Context, Duration, Effect, Layer, Option, type Redacted, Schedule, Schema, Stream } from "effect"
import { ulid } from "ulid"
import type { JobEvent } from "./Api/Event.js"
import { Api, type Job, type JobSummary, ListQuery, SubmitHeaders, SubmitJob } from "./Api.js"
import { type EventsProblem, events } from "./Client/Events.js"
import { type ApiProblem, isPassing, refused, type SlugOf, TransportError, toFailure } from "./Client/Failure.js"
import { random } from "./Job/random.js"
import { isTerminal, type Status } from "./Job.js"

export type { JobEvent } from "./Api/Event.js"
export { Extensions, type ProblemSlug, problems } from "./Api/Problem.js"
export { Api, Job, JobSummary, SubmitJob } from "./Api.js"
export type { EventsProblem } from "./Client/Events.js"
export { ApiProblem, TransportError } from "./Client/Failure.js"

export interface Options {
  /** Where the service is, such as `http://127.0.0.1:3000`. */
  readonly baseUrl: string
  /** A key of `OFFLOAD_API_KEYS`, where the service has keys. */
  readonly key?: Redacted.Redacted | string | undefined
  /** How long a call goes on trying while the service is out of reach: 60 s, unless another time is given. */
  readonly patience?: Duration.DurationInput | undefined
}

/** What a call of the contract's group `jobs` can fail with. */
type Failure<Name extends keyof Calls> =
  ReturnType<Calls[Name]> extends Effect.Effect<infer _A, infer E> ? ApiProblem<SlugOf<E>> | TransportError : never

type Calls = Effect.Effect.Success<ReturnType<typeof makeCalls>>

export class OffloadClient extends Context.Tag("effect-offload/OffloadClient")<
  OffloadClient,
  {
    /**
     * Submits a job: once this answers, the job is durable and will end. Without an `idempotencyKey` the call makes one
     * of its own, so that however often it has to be repeated there is one job. With `waitSeconds` (at most 60) it
     * answers when the job has ended, or after that time. A body that the contract refuses is not sent.
     */
    readonly submit: (
      body: typeof SubmitJob.Encoded,
      options?: { readonly idempotencyKey?: string | undefined; readonly waitSeconds?: number | undefined },
    ) => Effect.Effect<typeof Job.Type, Failure<"submitJob">>

    /** The job as it is now. */
    readonly get: (id: string) => Effect.Effect<typeof Job.Type, Failure<"getJob">>

    /** The job, once it has ended: however long that takes. */
    readonly wait: (id: string) => Effect.Effect<typeof Job.Type, Failure<"getJob">>

    /**
     * The job's life, from event `after` on (0: from its beginning), until `done`. It goes on through lost connections
     * and restarts of the service, with nothing lost or repeated. A reader that has `done` already gets nothing.
     */
    readonly events: (
      id: string,
      options?: { readonly after?: number | undefined },
    ) => Stream.Stream<JobEvent, EventsProblem | TransportError>

    /**
     * The job's text as it comes. Where an attempt fails and another one follows, the text of the next begins anew
     * after what was given of the one before: `events` tells them apart, and `wait` has the last one's alone.
     */
    readonly output: (id: string) => Stream.Stream<string, EventsProblem | TransportError>

    /** Asks for the job's end; it is `cancelled` when its processes are gone. A job that has ended stays as it is. */
    readonly cancel: (id: string) => Effect.Effect<typeof Job.Type, Failure<"cancelJob">>

    /** Removes a job that has ended. Not repeated by itself: a second call would find nothing. */
    readonly remove: (id: string) => Effect.Effect<void, Failure<"deleteJob">>

    /** The caller's jobs, newest first, page by page as they are asked for. */
    readonly list: (query?: {
      readonly status?: Status | undefined
      readonly resource?: string | undefined
      /** How many jobs a page has, at most 100: 20, unless told. */
      readonly pageSize?: number | undefined
    }) => Stream.Stream<typeof JobSummary.Type, Failure<"listJobs">>
  }
>() {
  static readonly make = ({
    baseUrl,
    key,
    patience = Duration.seconds(60),
  }: Options): Effect.Effect<OffloadClient["Type"], never, HttpClient.HttpClient> =>
    Effect.gen(function* () {
      const http = (yield* HttpClient.HttpClient).pipe(
        HttpClient.mapRequest(HttpClientRequest.prependUrl(baseUrl.replace(/\/+$/, ""))),
        // A browser asks the service for leave of each further header, and the service gives none for those of traces.
        HttpClient.withTracerPropagation(false),
        key === undefined ? (client) => client : HttpClient.mapRequest(HttpClientRequest.bearerToken(key)),
      )
      const calls = yield* makeCalls(http)
      const patiently = retryWith(Duration.decode(patience))

      const submit: OffloadClient["Type"]["submit"] = (body, { idempotencyKey, waitSeconds } = {}) =>
        Effect.gen(function* () {
          const payload = yield* Effect.mapError(decodeBody(body), refused("invalid-request"))
          const headers = yield* Effect.mapError(
            decodeHeaders({ "idempotency-key": idempotencyKey ?? ulid(undefined, random), ...prefer(waitSeconds) }),
            refused("invalid-parameter"),
          )
          return yield* patiently(within(calls.submitJob({ payload, headers }), waitSeconds))
        })

      const get = (id: string, waitSeconds?: number) =>
        patiently(within(calls.getJob({ path: path(id), headers: prefer(waitSeconds) }), waitSeconds))

      const wait: OffloadClient["Type"]["wait"] = (id) =>
        Effect.flatMap(get(id, longestWait), (job) =>
          // The pause is for a service that answers sooner than it was asked to.
          isTerminal(job.status) ? Effect.succeed(job) : Effect.delay(wait(id), "100 millis"),
        )

      const follow: OffloadClient["Type"]["events"] = (id, { after = 0 } = {}) =>
        events(http, id, { after, patience: Duration.decode(patience) })

      return {
        submit,
        get: (id) => get(id),
        wait,
        events: follow,
        output: (id) => Stream.mapConcat(follow(id), (event) => (event.type === "output" ? [event.text] : [])),
        cancel: (id) => patiently(within(calls.cancelJob({ path: path(id) }))),
        remove: (id) => Effect.mapError(within(calls.deleteJob({ path: path(id) })), toFailure),
        list: ({ pageSize = 20, resource, status } = {}) =>
          Stream.paginateChunkEffect(undefined, (cursor: string | undefined) =>
            checkQuery({ status, resource, limit: pageSize, cursor }).pipe(
              Effect.mapError(refused("invalid-parameter")),
              Effect.flatMap((urlParams) => patiently(within(calls.listJobs({ urlParams })))),
              Effect.map((page) => [Chunk.fromIterable(page.jobs), Option.fromNullable(page.cursor)]),
            ),
          ),
      }
    })

  static readonly layer = (options: Options): Layer.Layer<OffloadClient, never, HttpClient.HttpClient> =>
    Layer.effect(OffloadClient, OffloadClient.make(options))
}

/** The longest wait that the service grants, in seconds. */
const longestWait = 60

/** How long an answer may take beside the wait that was asked for. */
const answerTime = Duration.seconds(30)

const makeCalls = (httpClient: HttpClient.HttpClient) =>
  HttpApiClient.group(Api, {
    group: "jobs",
    httpClient,
  })

const decodeBody = Schema.decodeUnknown(SubmitJob, { errors: "all", onExcessProperty: "error" })
const decodeHeaders = Schema.decodeUnknown(SubmitHeaders, { errors: "all" })

const checkQuery = Schema.validate(ListQuery, { errors: "all" })

const prefer = (waitSeconds: number | undefined): { readonly prefer?: string } =>
  waitSeconds === undefined ? {} : { prefer: `wait=${Math.min(longestWait, Math.max(0, Math.ceil(waitSeconds)))}` }

/** The contract's paths take an id as it is. */
const path = (id: string) => ({ id: encodeURIComponent(id) })

const within = <A, E, R>(call: Effect.Effect<A, E, R>, waitSeconds = 0): Effect.Effect<A, E | TransportError, R> =>
  Effect.timeoutFail(call, {
    duration: Duration.sum(answerTime, Duration.seconds(Math.min(longestWait, waitSeconds))),
    onTimeout: () => new TransportError({ reason: "unreachable", detail: "The service did not answer in time." }),
  })

/** Repeats what fails for the moment, at growing intervals of at most 5 s. */
const retryWith =
  (patience: Duration.Duration) =>
  <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, ApiProblem<SlugOf<E>> | TransportError, R> =>
    call.pipe(
      Effect.mapError((error) => toFailure(error)),
      Effect.retry(
        Schedule.exponential("200 millis").pipe(
          Schedule.union(Schedule.spaced("5 seconds")),
          Schedule.jittered,
          Schedule.zipRight(Schedule.elapsed),
          Schedule.whileOutput(Duration.lessThan(patience)),
          Schedule.whileInput(isPassing),
        ),
      ),
    )
