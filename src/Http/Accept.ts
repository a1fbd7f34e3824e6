/**
 * The one call that must cost as little as can be: `POST /jobs` of a client that waits for nothing. It goes from Node's
 * request to Node's response without a router, a scope and a span, in one fiber. Whatever is unusual about a request
 * goes the way of all others, before a byte of its body is read, and so does every request where somebody traces them.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import { Effect, Either, FiberRef, Runtime, Schema } from "effect"
import { SubmitHeaders, SubmitJob } from "../Api.js"
import { add } from "../Metrics.js"
import { Offload } from "../Offload.js"
import { OffloadConfig } from "../OffloadConfig.js"
import { Admission } from "./Admission.js"
import { type Answer, write } from "./Answer.js"
import { collect, decoder, isJson } from "./Body.js"
import { type Caller, callerOf } from "./Caller.js"
import { accepted, toSubmission } from "./Jobs.js"
import { Problem, type ServiceError, toAnswer } from "./Problem.js"
import { hostsOf, isOwnHost } from "./Server.js"

/** Turns whatever a call fails with into the problem that it is answered with. */
type OrProblem = <A, R>(call: Effect.Effect<A, Problem | ServiceError, R>) => Effect.Effect<A | Problem, never, R>

const decode = decoder(SubmitJob)
const decodeHeaders = Schema.decodeUnknownEither(SubmitHeaders)
const noFields = Either.right<typeof SubmitHeaders.Type>({})

/** Makes what takes a request and answers it, or does nothing and says so by `false`. */
export const make = (orProblem: OrProblem) =>
  Effect.gen(function* () {
    const offload = yield* Offload
    const admission = yield* Admission
    const config = yield* OffloadConfig
    const isTraced = yield* FiberRef.get(FiberRef.currentTracerEnabled)
    const run = Runtime.runFork(yield* Effect.runtime<never>())
    const isOff = isTraced || config.corsOrigins.length > 0 || config.role === "worker"

    const answer = (body: SubmitJob, caller: Caller["Type"], key: string | undefined): Effect.Effect<Answer> =>
      Effect.map(
        orProblem(
          Effect.flatMap(admission.submit(caller), (fields) =>
            Effect.map(offload.submit(toSubmission(body, caller.name, key)), ({ snapshot }) =>
              accepted(snapshot, fields),
            ),
          ),
        ),
        (result) => (result instanceof Problem ? toAnswer(result) : result),
      )

    return (request: IncomingMessage, response: ServerResponse): boolean => {
      if (isOff || request.method !== "POST" || request.url !== "/jobs") return false
      const { headers } = request
      if (headers.prefer !== undefined || !isJson(headers["content-type"]) || !isOwnHost(hostsOf(request), config)) {
        return false
      }
      const caller = callerOf(headers.authorization, config.callers)
      if (Either.isLeft(caller)) return false
      const fields = headers["idempotency-key"] === undefined ? noFields : decodeHeaders(headers)
      if (Either.isLeft(fields)) return false

      const end = (answer: Answer) => {
        add("offload_http_requests_total", { method: "POST", status: String(answer.status) })
        write(answer, response)
      }
      collect(request, config.maxBodyBytes, (bytes) => {
        const body = Either.flatMap(bytes, decode)
        if (Either.isLeft(body)) end(toAnswer(body.left))
        else run(Effect.map(answer(body.right, caller.right, fields.right["idempotency-key"]), end))
      })
      return true
    }
  })
