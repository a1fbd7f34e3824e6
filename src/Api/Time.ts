/** How a time is written. */
import { Schema } from "effect"

export const Time = Schema.String.annotations({
  identifier: "Time",
  format: "date-time",
  description: "RFC 3339, in UTC",
})
