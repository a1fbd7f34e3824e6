/** Random numbers for ids. */

const pool = new Uint8Array(4096)
let used = pool.length

/**
 * A random number, from 0 up to but not including 1, in steps of 1/256, from the system's generator: one call of it for
 * many of them, since a call for each letter of an id costs more than all the rest of saving a job.
 */
export const random = (): number => {
  if (used === pool.length) {
    // Not `node:crypto`: the client reads this file in browsers too.
    crypto.getRandomValues(pool)
    used = 0
  }
  return (pool[used++] ?? 0) / 256
}
