/** A command that starts as many processes as it can, and one that leaves a mess for the next, in each mode. */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type Json, type Service, waitUntil } from "../e2e/Service.js"
import { quote } from "./attacks.js"
import { processesNamed } from "./machine.js"
import { as, missing, modeNames, modes, serviceIn } from "./modes.js"

const processes = 40

/** Everything that one command may leave to another. */
const report =
  'ulimit -a; umask; nice; cat /proc/self/oom_score_adj; grep allowed /proc/self/status; cat /proc/self/cgroup; env | sort; trap; ls -A . "$TMPDIR"; echo $(ls /proc/$$/fd); ls -ld /tmp | cut -c1-10'

/** Names of folders and of attempts are not used twice. */
const comparable = (text: string): string =>
  text.replaceAll(/offload-\S*|OFFLOAD_ATTEMPT=\S*|\d+\.\d+-\w+/g, "").replaceAll(/^(max user )?process(es)?\b.*/gm, "")

const mess = `ulimit -S -n 33; ulimit -c 0; umask 0; renice -n 15 -p $$; taskset -p 1 $$; echo 900 >/proc/self/oom_score_adj
export LEFT=over PATH=/nowhere; trap '' TERM HUP; cd /; : >"$TMPDIR/left"; ulimit -n 9`

describe.each(modeNames)("in the mode %s", (name) => {
  const mode = modes[name]
  const reason = missing(mode)
  if (reason !== null) {
    it.skip(`nothing can be tried here: ${reason}`)
    return
  }
  const service: Service = serviceIn(mode, {
    resources: { bomb: { limits: { processes }, permits: 1 }, other: {} },
    env: { OFFLOAD_KILL_GRACE_SECONDS: "0.1" },
  })
  beforeAll(() => service.start())
  afterAll(() => service.dispose())

  const submit = async (caller: "mallory" | "victor", script: string, more: Json = {}): Promise<string> =>
    (await service.submit(script, { maxAttempts: 1, ...more }, as(caller))).body.id
  const run = async (caller: "mallory" | "victor", script: string, more: Json = {}) =>
    await service.ended(await submit(caller, script, more), 60, as(caller))

  it("a fork bomb has no more processes than its limit, and the service and other attempts go on", async () => {
    const word = `bomb-${process.pid}-${Math.random().toString(36).slice(2)}`
    const bomb = `exec perl -e 'while (1) { fork; select undef, undef, undef, 0.02 }' ${word}`
    const id = await submit("mallory", bomb, { resource: "bomb", timeoutSeconds: 3 })
    let most = 0
    await waitUntil(() => {
      most = Math.max(most, processesNamed(word).length)
      return most > processes / 2
    })
    for (let n = 0; n < 5; n++) {
      const job = await run("victor", "for n in 1 2 3 4 5 6 7 8; do /bin/echo $n; done", { resource: "other" })
      expect([job.status, job.output.text]).toEqual(["succeeded", "1\n2\n3\n4\n5\n6\n7\n8\n"])
      most = Math.max(most, processesNamed(word).length)
    }
    expect(most).toBeLessThanOrEqual(processes)
    const job = await service.ended(id, 60, as("mallory"))
    expect([job.status, job.error.tag]).toEqual(["failed", "LlmTimeout"])
    expect(processesNamed(word)).toEqual([])
  })

  it("a mess in limits, priorities, environment and folders is not left to another caller's attempt", async () => {
    const before = (await run("victor", report, { resource: "bomb" })).output.text
    await run("mallory", `sh -c ${quote(mess)}\n${mess}`, { resource: "bomb" })
    const after = (await run("victor", report, { resource: "bomb" })).output.text
    expect(comparable(after)).toBe(comparable(before))
    expect(before).toMatch(/\nPATH=/)
  })
})
