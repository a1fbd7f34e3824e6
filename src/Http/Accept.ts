/**
 * The one call that must cost as little as can be: `POST /jobs` of a client that waits for nothing. It goes from Node's
 * request to Node's response without a router, a scope and a span, and as a rule without a fiber. Whatever is unusual about
 * a request goes the way of all others, before a byte of its body is read, and so does every request where somebody traces
 * them; what turns out to be unusual later takes a fiber from there on.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import { Effect, Either, FiberRef, Runtime, Schema } from "effect"
import { SubmitHeaders, SubmitJob } from "../Api.js"
import { add } from "../Metrics.js"
import { Offload, type Submitted } from "../Offload.js"
import { OffloadConfig } from "../OffloadConfig.js"
import { Admission, type RateLimitFields } from "./Admission.js"
import { type Answer, write } from "./Answer.js"
import { collect, decoder, isJson } from "./Body.js"
import { type Caller, callerOf, nobody } from "./Caller.js"
import { accepted, toSubmission } from "./Jobs.js"
import { Keyring } from "./Keyring.js"
import { Problem, type ServiceError, toAnswer } from "./Problem.js"
import { hasTwoKeys, hostsOf, isOwnHost } from "./Server.js"
import { tooManyUnread, Unread } from "./Unread.js"

/** Turns whatever a call fails with into the problem that it is answered with. */
type OrProblem = <A, R>(call: Effect.Effect<A, Problem | ServiceError, R>) => Effect.Effect<A | Problem, never, R>

const decode = decoder(SubmitJob)
const decodeHeaders = Schema.decodeUnknownEither(SubmitHeaders)
const noFields = Either.right<typeof SubmitHeaders.Type>({})

const isSubmitted = <E>(rest: Effect.Effect<Submitted, E>): rest is Either.Right<E, Submitted> =>
  Either.isEither(rest) && Either.isRight(rest)

/** Makes what takes a request and answers it, or does nothing and says so by `false`. */
export const make = (orProblem: OrProblem) =>
  Effect.gen(function* () {
    const offload = yield* Offload
    const admission = yield* Admission
    const keyring = yield* Keyring
    const unread = yield* Unread
    const config = yield* OffloadConfig
    const clock = yield* Effect.clock
    const isTraced = yield* FiberRef.get(FiberRef.currentTracerEnabled)
    const run = Runtime.runFork(yield* Effect.runtime<never>())
    const isOff = isTraced || config.corsOrigins.length > 0 || config.role === "worker"

    const send = (answer: Answer, response: ServerResponse): void => {
      add("offload_http_requests_total", { method: "POST", status: String(answer.status) })
      write(answer, response)
    }

    /** An answer, unless too many bytes wait for its caller. */
    const hand = (answer: Answer, caller: Caller["Type"], response: ServerResponse): void => {
      const isHeld = unread.holdAnswer(caller, Buffer.byteLength(answer.body), response)
      send(isHeld ? answer : toAnswer(tooManyUnread(answer.headers.location)), response)
    }

    /** The short way's end: what is still to be done takes a fiber. */
    const finish = (
      rest: Effect.Effect<Submitted, Problem | ServiceError>,
      caller: Caller["Type"],
      fields: RateLimitFields,
      response: ServerResponse,
    ): void => {
      run(
        Effect.map(orProblem(rest), (result) =>
          result instanceof Problem
            ? send(toAnswer(result), response)
            : hand(accepted(result.snapshot, fields), caller, response),
        ),
      )
    }

    /** A bug is logged and answered, as on the long way, and does not end the process. */
    const unlessBroken = (response: ServerResponse, act: () => void): void => {
      try {
        act()
      } catch (defect) {
        finish(Effect.die(defect), nobody, {}, response)
      }
    }

    const submit = (
      body: SubmitJob,
      caller: Caller["Type"],
      key: string | undefined,
      response: ServerResponse,
    ): void => {
      admission.take(caller, clock.unsafeCurrentTimeMillis(), (admitted) => {
        if (Either.isLeft(admitted)) finish(admitted.left, caller, {}, response)
        else unlessBroken(response, () => save(body, caller, key, admitted.right, response))
      })
    }

    const save = (
      body: SubmitJob,
      caller: Caller["Type"],
      key: string | undefined,
      fields: RateLimitFields,
      response: ServerResponse,
    ): void => {
      const submission = toSubmission(body, caller.name, key)
      const isBegun = offload.submit.begin?.(submission, (rest) => {
        if (isSubmitted(rest)) {
          const { snapshot } = rest.right
          unlessBroken(response, () => hand(accepted(snapshot, fields), caller, response))
        } else finish(rest, caller, fields, response)
      })
      if (isBegun !== true) finish(offload.submit(submission), caller, fields, response)
    }

    return (request: IncomingMessage, response: ServerResponse): boolean => {
      if (isOff || request.method !== "POST" || request.url !== "/jobs") return false
      const { headers } = request
      if (headers.prefer !== undefined || !isJson(headers["content-type"]) || !isOwnHost(hostsOf(request), config)) {
        return false
      }
      // A browser's request is looked at with care.
      if (headers.origin !== undefined || headers["sec-fetch-site"] !== undefined || hasTwoKeys(request)) return false
      const caller = callerOf(headers.authorization, keyring.callers())
      if (Either.isLeft(caller)) return false
      const fields = headers["idempotency-key"] === undefined ? noFields : decodeHeaders(headers)
      if (Either.isLeft(fields)) return false

      collect(request, config.maxBodyBytes, (bytes) => {
        const body = Either.flatMap(bytes, decode)
        if (Either.isLeft(body)) return send(toAnswer(body.left), response)
        unlessBroken(response, () => submit(body.right, caller.right, fields.right["idempotency-key"], response))
      })
      return true
    }
  })
