/**
 * Requests that come when nobody serves. Before the service serves they wait, so that a caller does not notice a
 * restart; who asks whether it is ready is told at once. When it has served they are refused.
 */
import type { RequestListener } from "node:http"
import { write } from "./Answer.js"
import { Problem, toAnswer } from "./Problem.js"

export interface Options {
  /** The longest that a request waits, in milliseconds. */
  readonly holdMillis: number
  /** The most that wait; what comes then is refused. Their bodies are not read. */
  readonly most: number
}

const defaults: Options = { holdMillis: 10_000, most: 1000 }

export interface Starting {
  readonly listener: RequestListener
  /** Hands over what waits, and whatever comes from then on. */
  readonly serve: (listener: RequestListener) => void
  /** Refuses what waits, and whatever comes from then on. */
  readonly end: () => void
}

export const make = ({ holdMillis, most }: Options = defaults): Starting => {
  const held = new Set<(listener: RequestListener) => void>()

  const hold: RequestListener = (request, response) => {
    const leave = () => {
      clearTimeout(timer)
      held.delete(begin)
      response.off("close", leave)
    }
    const begin = (listener: RequestListener) => {
      leave()
      listener(request, response)
    }
    const timer = setTimeout(() => begin(refuse), holdMillis)
    held.add(begin)
    response.on("close", leave)
  }

  const wait: RequestListener = (request, response) => {
    if (held.size >= most || request.url === "/health/ready") refuse(request, response)
    else hold(request, response)
  }

  let current = wait
  /** From now on each request is this one's, and so is each that waits. */
  const hand = (listener: RequestListener) => {
    current = listener
    for (const begin of [...held]) begin(listener)
  }

  return {
    listener: (request, response) => current(request, response),
    serve: hand,
    end: () => hand(refuse),
  }
}

const refuse: RequestListener = (_request, response) => {
  const problem = new Problem({
    slug: "starting",
    detail: "The service does not serve yet. Nothing was done.",
    headers: { "retry-after": "1", connection: "close" },
  })
  write(toAnswer(problem), response)
}
