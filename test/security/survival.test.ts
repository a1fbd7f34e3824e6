/** Daemons that want to outlive their attempt, after each of its ends, in each mode. */
import { rmSync } from "node:fs"
import { afterAll, beforeAll, expect, it } from "vitest"
import { type Service, waitUntil } from "../e2e/Service.js"
import { perl } from "./attacks.js"
import { processesNamed } from "./machine.js"
import { as, describeModes, serviceIn } from "./modes.js"

/** Two forks, a session of its own, no descriptor, no environment, no signal that it takes; `before`: what it does then. */
const daemon = (word: string, before = ""): string =>
  perl(`my $leader = getpgrp(0);
unless (fork) {
  POSIX::setsid();
  exit if fork;
  $SIG{$_} = 'IGNORE' for 'TERM', 'HUP', 'INT';
  ${before}
  POSIX::close($_) for 0 .. 2;
  exec 'env', '-i', 'perl', '-e', 'sleep 1 while 1', '${word}';
}
wait;`)

let words = 0
const newWord = (): string => `daemon-${process.pid}-${++words}`

/** The end of the script waits until the daemon is there, so that each end finds it. */
const until = (word: string): string => `until grep -qs ${word} /proc/[0-9]*/cmdline; do sleep 0.05; done; echo there; `

const kill = (word: string): void => {
  for (const pid of processesNamed(word)) process.kill(pid, "SIGKILL")
}

const ends: ReadonlyArray<readonly [status: string, last: string, timeoutSeconds: number]> = [
  ["succeeded", "exit 0", 60],
  ["failed", "exit 1", 60],
  ["failed by its timeout", "sleep 60", 2],
  ["cancelled", "sleep 60", 60],
]

describeModes("a daemon in the mode %s", (mode) => {
  const service: Service = serviceIn(mode, {
    resources: { llm: {} },
    env: { OFFLOAD_KILL_GRACE_SECONDS: "0.2" },
  })
  beforeAll(() => service.start())
  afterAll(() => service.dispose())

  const submit = async (script: string, timeoutSeconds = 60): Promise<string> =>
    (await service.submit(script, { timeoutSeconds, maxAttempts: 1 }, as("mallory"))).body.id

  const isThere = (id: string, word: string) =>
    waitUntil(
      () => processesNamed(word).length > 0,
      () => `no daemon of ${id}`,
    )

  it.each(ends)("is gone when its job has %s", async (status, last, timeoutSeconds) => {
    const word = newWord()
    const id = await submit(`${daemon(word)}\n${until(word.replace("-", "[-]"))}${last}`, timeoutSeconds)
    if (status === "cancelled") {
      await isThere(id, word)
      await service.call("POST", `/jobs/${id}/cancel`, undefined, as("mallory"))
    }
    const job = await service.ended(id, 60, as("mallory"))
    expect(processesNamed(word)).toEqual([])
    expect(status).toContain(job.status)
    if (status !== "cancelled") expect(job.output.text).toBe("there\n")
  })

  it("is gone after kill -9 of the service and its next start", async () => {
    const word = newWord()
    const begun = `/tmp/${word}.begun`
    // The next run begins the job again.
    const id = await submit(`[ ! -e ${begun} ] || exit 0; : >${begun}\n${daemon(word)}\nsleep 60`)
    await isThere(id, word)
    await service.kill()
    if (mode.containment === "namespace") await waitUntil(() => processesNamed(word).length === 0)
    await service.start()
    expect(processesNamed(word)).toEqual([])
    expect((await service.ended(id, 60, as("mallory"))).status).toBe("succeeded")
    rmSync(begun)
  })

  const isRootsGroup = mode.containment === "group" && mode.isRoot && mode.user === null
  if (isRootsGroup)
    it("that leaves its control group as root is found by what it inherited", async () => {
      const word = newWord()
      const leave = `for (map { (split ' ')[4] } grep { / - cgroup2? / } split /\\n/, slurp('/proc/self/mountinfo')) {
      next unless sysopen(my $file, "$_/cgroup.procs", O_WRONLY);
      syswrite($file, '0');
    }`
      const id = await submit(`${daemon(word, leave)}\n${until(word.replace("-", "[-]"))}`)
      const job = await service.ended(id, 60, as("mallory"))
      expect([job.status, processesNamed(word)]).toEqual(["succeeded", []])
    })

  if (mode.containment === "group" && !mode.hasCgroup)
    it("that kills the leader of its group and lowers the limit it inherited lives on, where there is no control group", async () => {
      const word = newWord()
      const hide = "system 'prlimit', '--rttime=1000', '--pid', $$; kill 'KILL', $leader;"
      const id = await submit(`${daemon(word, hide)}\nsleep 60`)
      await service.ended(id, 60, as("mallory"))
      await isThere(id, word)
      kill(word)
    })
})
