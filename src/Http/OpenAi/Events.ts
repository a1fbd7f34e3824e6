/**
 * A response's life as OpenAI's API streams it. The events and their numbers follow from the job's log alone, so that
 * a stream can be resumed after any of them, also after a restart: it is told again from its beginning, without what
 * the reader has.
 *
 * - A status that was said before is not said again: a second attempt shows in a second output item alone.
 * - The text of an attempt is one output item. That of an attempt after which another one follows is closed as
 *   `incomplete`; the finished response has the item of the last attempt alone.
 * - The API has no event for the end of a cancelled response, and its client ends in an error at one that it does not
 *   know: it is told as `response.incomplete`, with a response that is `cancelled`.
 */
import { randomUUID } from "node:crypto"
import type { Event, Input, Job } from "../../Job.js"
import * as Response from "./Response.js"

/** An entry of the log, or after the last of them the job as it ended. */
export type Entry = Event | { readonly type: "ended"; readonly job: Job }

/** Where the text stands that a message repeats: no member that is written. */
const spanOf: unique symbol = Symbol("span")

/** An event of the stream. */
export interface Message {
  readonly type: string
  readonly sequence_number: number
  readonly [member: string]: unknown
  /** Where the text stands that it repeats. */
  readonly [spanOf]?: Span | null
}

/** The output events that a text is made of: those after a number, up to the last. */
export interface Span {
  readonly after: number
  readonly last: number
}

/** How far the stream has come. */
interface Position {
  /** The number of the next event. */
  readonly next: number
  readonly hasRun: boolean
  /** How many output items have been opened. */
  readonly items: number
  /** The item that is open: its attempt, and where its text so far stands. */
  readonly open: (Span & { readonly attempt: number }) | null
}

export const start: Position = { next: 0, hasRun: false, items: 0, open: null }

/** Stands in a message for the text of its item, which is not held. Nobody knows it, so that no other text is it. */
const place = randomUUID()

/**
 * The events of an entry of the log. `job` may be of any moment: only what never changes of it is told before `ended`.
 */
export const advance = (job: Job, input: Input, position: Position, entry: Entry) => {
  const { told, to } = step(job, input, position, entry)
  return {
    told: told.map(({ type, ...rest }, index): Message => {
      return { type, sequence_number: position.next + index, ...rest, [spanOf]: position.open }
    }),
    to: { ...to, next: position.next + told.length },
  }
}

/** As a server-sent event; where it repeats a text, up to there, with what comes after it. */
export const encode = (
  message: Message,
): { readonly text: string; readonly span: Span | null; readonly rest: string } => {
  const [text = "", rest] = `event: ${message.type}\ndata: ${JSON.stringify(message)}\n\n`.split(place)
  return rest === undefined ? { text, span: null, rest: "" } : { text, span: message[spanOf] ?? null, rest }
}

/** The text of an event of the log, as it stands within a text of JSON. */
export const textOf = (event: Event): string => (event.type === "output" ? JSON.stringify(event.text).slice(1, -1) : "")

interface Told {
  readonly type: string
  readonly [member: string]: unknown
}

const step = (
  job: Job,
  input: Input,
  position: Position,
  entry: Entry,
): { readonly told: ReadonlyArray<Told>; readonly to: Position } => {
  switch (entry.type) {
    case "output":
      return output(job, position, entry)
    case "status":
      return status(job, input, position, entry)
    case "ended": {
      const response = Response.current(entry.job, input, position.open === null ? "" : place)
      return {
        told: [
          ...close(job, position, Response.itemStatusOf(entry.job)),
          { type: endings[response.status] ?? "response.incomplete", response },
        ],
        to: { ...position, open: null },
      }
    }
  }
}

const endings: Readonly<Partial<Record<Response.ResponseStatus, string>>> = {
  completed: "response.completed",
  failed: "response.failed",
}

const status = (job: Job, input: Input, position: Position, entry: Event & { readonly type: "status" }) => {
  const to: Position = { ...position, hasRun: position.hasRun || entry.status === "running" }
  switch (entry.status) {
    case "queued": {
      if (entry.attempt > 0) return { told: close(job, position, "incomplete"), to: { ...to, open: null } }
      const response = Response.begun(job, input, "queued")
      return {
        told: [
          { type: "response.created", response },
          { type: "response.queued", response },
        ],
        to,
      }
    }
    case "running":
      return {
        told: position.hasRun
          ? []
          : [{ type: "response.in_progress", response: Response.begun(job, input, "in_progress") }],
        to,
      }
    default:
      // `ended` follows, which knows what the job used and whether its text is all of it.
      return { told: [], to }
  }
}

const output = (job: Job, position: Position, { attempt, event, text }: Event & { readonly type: "output" }) => {
  const { open } = position
  const items = open === null ? position.items + 1 : position.items
  const at = { item_id: Response.messageIdOf(job, attempt), output_index: items - 1 }
  const item = { ...Response.message(job, attempt, "in_progress", ""), content: [] }
  return {
    told: [
      ...(open === null
        ? [
            { type: "response.output_item.added", output_index: at.output_index, item },
            { type: "response.content_part.added", ...at, content_index: 0, part: Response.part("") },
          ]
        : []),
      { type: "response.output_text.delta", ...at, content_index: 0, delta: text, logprobs: [] },
    ],
    to: { ...position, items, open: { attempt, after: open?.after ?? event - 1, last: event } },
  }
}

const close = (job: Job, { items, open }: Position, status: "in_progress" | "completed" | "incomplete") => {
  if (open === null) return []
  const { attempt } = open
  const at = { item_id: Response.messageIdOf(job, attempt), output_index: items - 1 }
  return [
    { type: "response.output_text.done", ...at, content_index: 0, text: place, logprobs: [] },
    { type: "response.content_part.done", ...at, content_index: 0, part: Response.part(place) },
    {
      type: "response.output_item.done",
      output_index: at.output_index,
      item: Response.message(job, attempt, status, place),
    },
  ]
}
