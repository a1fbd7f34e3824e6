/** A lock for each key: whoever enters first holds it, the others wait in line. Free keys cost nothing. */

/** A place in the line of a key. */
export interface Ticket {
  /** Whether the key is held. */
  readonly isHeld: () => boolean
  /** Calls back, once, as soon as the key is held. */
  readonly onHeld: (callback: () => void) => void
  /** Hands the key to the next in line, or gives up the place. A second call does nothing. */
  readonly leave: () => void
}

export interface Lock {
  readonly enter: (key: string) => Ticket
  /** How many keys are held. */
  readonly size: () => number
}

interface Place {
  held: boolean
  callback: (() => void) | null
}

export const make = (): Lock => {
  const lines = new Map<string, Set<Place>>()
  return {
    size: () => lines.size,
    enter: (key) => {
      const line = lines.get(key) ?? new Set()
      const place: Place = { held: line.size === 0, callback: null }
      if (place.held) lines.set(key, line)
      line.add(place)
      return {
        isHeld: () => place.held,
        onHeld: (callback) => {
          if (place.held) callback()
          else place.callback = callback
        },
        leave: () => {
          if (!line.delete(place)) return
          if (line.size === 0) lines.delete(key)
          if (!place.held) return
          for (const first of line) {
            first.held = true
            first.callback?.()
            return
          }
        },
      }
    },
  }
}
