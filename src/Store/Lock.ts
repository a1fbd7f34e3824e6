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
  /** Whether nobody holds the key. */
  readonly isFree: (key: string) => boolean
  /** How many keys are held. */
  readonly size: () => number
}

/** The first of a line holds the key. */
type Lines = Map<string, Array<Place>>

class Place implements Ticket {
  private callback: (() => void) | null = null

  constructor(
    private readonly lines: Lines,
    private readonly line: Array<Place>,
    private readonly key: string,
  ) {
    line.push(this)
  }

  isHeld(): boolean {
    return this.line[0] === this
  }

  onHeld(callback: () => void): void {
    if (this.isHeld()) callback()
    else this.callback = callback
  }

  leave(): void {
    const at = this.line.indexOf(this)
    if (at === -1) return
    this.line.splice(at, 1)
    const [first] = this.line
    if (first === undefined) this.lines.delete(this.key)
    else if (at === 0) first.callback?.()
  }
}

export const make = (): Lock => {
  const lines: Lines = new Map()
  return {
    size: () => lines.size,
    isFree: (key) => !lines.has(key),
    enter: (key) => {
      const line = lines.get(key) ?? []
      if (line.length === 0) lines.set(key, line)
      return new Place(lines, line, key)
    },
  }
}
