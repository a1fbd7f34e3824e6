/** How words are told to the launcher and to its sandboxes: see `launcher.pl`. */

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
