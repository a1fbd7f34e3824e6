/** How long a service takes to say that it lives while something is done to it, beside one that has nothing to do. */
import { Agent, get } from "node:http"
import { fastest } from "../fastest.js"
import type { Service } from "./Service.js"

const agent = new Agent({ keepAlive: true, maxSockets: 4 })

/** Milliseconds until `/health/live` has answered 200. */
const answerTime = (service: Service): Promise<number> =>
  new Promise((resolve, reject) => {
    const began = performance.now()
    get(`${service.url}/health/live`, { agent }, (response) => {
      response.resume()
      response.on("end", () =>
        response.statusCode === 200
          ? resolve(performance.now() - began)
          : reject(new Error(`it is not alive: ${response.statusCode}`)),
      )
    }).on("error", reject)
  })

/** The longest of these times while a deed is done; one more is taken after it. */
const longest = async (service: Service, isDone: () => boolean): Promise<number> => {
  let worst = 0
  for (let last = false; !last; ) {
    last = isDone()
    worst = Math.max(worst, await answerTime(service))
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  return worst
}

/** By how many milliseconds a deed slows a service down beside an idle one; the least of several tries. */
export const delayOf = (
  service: Service,
  idle: Service,
  millis: number,
  deed: () => Promise<unknown>,
): Promise<number> =>
  fastest(millis, async () => {
    let done = false
    const doing = deed().finally(() => {
      done = true
    })
    const [mine, theirs] = await Promise.all([longest(service, () => done), longest(idle, () => done), doing])
    return Math.max(0, mine - theirs)
  })
