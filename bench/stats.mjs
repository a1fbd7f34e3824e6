/** The few figures that are made of many. */

/** Of numbers in their order. */
export const percentile = (sorted, percent) =>
  sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? 0

export const median = (numbers) => {
  const sorted = [...numbers].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** The median of several rounds, and how far they lie apart. */
export const summary = (rounds) => ({ median: median(rounds), least: Math.min(...rounds), most: Math.max(...rounds) })
