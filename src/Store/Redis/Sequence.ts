/** The sequence of a new job, which the script that saves it gives. */
import type { Job } from "../../Job.js"
import { encodeJob } from "../Record.js"

/** A sequence that no job has: where it stands in the text, the script puts the real one. */
export const placeholder = Number.MAX_SAFE_INTEGER

/** The JSON of a job whose sequence is the placeholder, before that and after it. */
export const around = (job: Job): readonly [before: string, after: string] => {
  const [before = "", after = ""] = encodeJob(job).split(`"sequence":${placeholder}`)
  return [`${before}"sequence":`, after]
}
