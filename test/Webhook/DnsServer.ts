/** A name server on loopback, which says of names what a test wants. */
import { createSocket, type Socket } from "node:dgram"

/** `silent`: it gets no answer. */
export interface Records {
  readonly a?: ReadonlyArray<string> | "silent"
  readonly aaaa?: ReadonlyArray<string> | "silent"
}

const bytesOf = (address: string): Buffer => {
  if (!address.includes(":")) return Buffer.from(address.split(".").map(Number))
  const [head = "", tail = ""] = address.split("::")
  const groups = (text: string) => (text === "" ? [] : text.split(":").map((group) => Number.parseInt(group, 16)))
  const [before, after] = [groups(head), groups(tail)]
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after]
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]))
}

const short = (value: number) => Buffer.from([value >> 8, value & 0xff])

export class DnsServer {
  /** The names that were asked for. */
  readonly asked: Array<string> = []
  readonly #socket: Socket = createSocket("udp4")

  constructor(readonly records: Readonly<Record<string, Records>>) {
    this.#socket.on("message", (query, { address, port }) => {
      const answer = this.#answer(query)
      if (answer !== null) this.#socket.send(answer, port, address)
    })
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#socket.bind(0, "127.0.0.1", resolve))
    return this
  }

  get address(): string {
    return `127.0.0.1:${this.#socket.address().port}`
  }

  stop(): void {
    this.#socket.close()
  }

  #answer(query: Buffer): Buffer | null {
    const labels: Array<string> = []
    let at = 12
    for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
      labels.push(query.toString("latin1", at + 1, at + 1 + length))
      at += 1 + length
    }
    const type = query.readUInt16BE(at + 1)
    const question = query.subarray(12, at + 5)
    // A client may change the case of letters, to tell true answers from others.
    const name = labels.join(".").toLowerCase()
    this.asked.push(name)
    const records = this.records[name]
    const found = records === undefined ? undefined : type === 1 ? (records.a ?? []) : (records.aaaa ?? [])
    if (found === "silent") return null
    const code = found === undefined ? 3 : 0
    const answers = (found ?? []).map((address) => {
      const data = bytesOf(address)
      // A pointer to the name of the question; class IN; no time to live.
      return Buffer.concat([short(0xc00c), short(type), short(1), short(0), short(0), short(data.length), data])
    })
    const head = [query.subarray(0, 2), short(0x8180 | code), short(1), short(answers.length), short(0), short(0)]
    return Buffer.concat([...head, question, ...answers])
  }
}
