/** How the service talks with the launcher and its sandboxes: frames to them, lines from them. See `launcher.pl`. */

/** Words of any bytes, each with its length before it, and the length of all before them. */
export const frame = (words: ReadonlyArray<string>): Buffer => {
  const lengths = words.map((word) => Buffer.byteLength(word))
  const all = lengths.reduce((sum, length) => sum + 4 + length, 0)
  const bytes = Buffer.allocUnsafe(4 + all)
  let at = bytes.writeUInt32BE(all, 0)
  for (const [index, word] of words.entries()) {
    at = bytes.writeUInt32BE(lengths[index] ?? 0, at)
    at += bytes.write(word, at)
  }
  return bytes
}

/** How much of a line that does not end is kept. */
const maxLine = 4096

/** Takes chunks of any size, and gives each line once it is whole. */
export const makeLines = (take: (line: string) => void): ((chunk: Buffer) => void) => {
  let rest = ""
  return (chunk) => {
    const lines = (rest + chunk.toString("latin1")).split("\n")
    rest = (lines.pop() ?? "").slice(-maxLine)
    for (const line of lines) take(line)
  }
}
