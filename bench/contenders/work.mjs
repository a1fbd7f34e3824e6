/** The work of a job, as the contenders that are programs of Node do it. */
import { spawn } from "node:child_process"

const [command, ...args] = JSON.parse(process.env.CHILD ?? "[]")

/** How many jobs run at once. */
export const permits = 2

/** Runs the child with a prompt; answers what it wrote. */
export const work = (prompt) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "ignore"] })
    let text = ""
    child.stdout.on("data", (chunk) => {
      text += chunk
    })
    child.on("error", reject)
    child.on("close", (code) => (code === 0 ? resolve(text) : reject(new Error(`the child exited with ${code}`))))
    child.stdin.on("error", reject)
    child.stdin.end(prompt)
  })
