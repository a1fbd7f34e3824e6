/** A caller with a key, at a service or at a fleet. */
import { type Answer, type Json, type Service, waitUntil } from "../e2e/Service.js"

export type Front = Pick<Service, "submit" | "call" | "ended">

const keys = { careful: "careful-0123456789", hostile: "hostile-0123456789" } as const

export type Name = keyof typeof keys

/** The setting that lets both of them in. The queue of the hostile one is what its limits let it have. */
export const apiKeys = JSON.stringify(
  Object.fromEntries(Object.entries(keys).map(([name, key]) => [name, { keys: [key] }])),
)

export const headersOf = (name: Name): Record<string, string> => ({ authorization: `Bearer ${keys[name]}` })

export const as = (name: Name, front: Pick<Service, "call">): Front => {
  const call = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> =>
    front.call(method, path, body, { ...headersOf(name), ...headers })
  const ended = async (id: string, seconds = 60): Promise<Json> => {
    let job: Json
    await waitUntil(
      async () => {
        job = (await call("GET", `/jobs/${id}`)).body
        return ["succeeded", "failed", "cancelled"].includes(job?.status)
      },
      () => `the job has not ended: ${JSON.stringify(job)}`,
      seconds,
    )
    return job
  }
  return {
    call,
    ended,
    submit: (prompt, more = {}, headers = {}) => call("POST", "/jobs", { prompt, ...more }, headers),
  }
}
