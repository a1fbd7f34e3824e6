/** What an audit says of a program: the shapes that text, JSON and Markdown are made from. */

/** A place in the program. */
export interface Where {
  /** From the folder of the tsconfig, with `/` between its parts. */
  readonly file: string
  readonly line: number
  /** The declaration that it stands in: what stays the same when lines move. */
  readonly within: string
}

/** What the handler of an error decides: a value, `a or b` where it depends, `computed` where it is not a literal, with `by f` where that is not the handler. */
export interface Decision {
  readonly retryable: string
  readonly level: string
  /** `error.tag` of the job. */
  readonly storedTag: string
  /** The page of the service that explains the stored tag; `none` where it has none. */
  readonly problem: string
  /** What else it does to the job or its resource. */
  readonly also: ReadonlyArray<string>
}

/** An error in the channel of some work, and who decides on it. */
export interface Row extends Decision {
  readonly tag: string
  readonly handler: string
}

/** A call of `settle`. */
export interface Place {
  readonly where: Where
  readonly job: string
  readonly work: string
  readonly rows: ReadonlyArray<Row>
  /** What becomes of a defect, and of an interruption, of the work. */
  readonly defects: string
  readonly interruption: string
}

/** A call of `fork`: what it starts, and whether `settle` made that. */
export interface Fork {
  readonly where: Where
  readonly effect: string
  readonly settled: boolean
}

/** An error of the program that fails a job without a call of `settle`: a row of its table of dispositions. */
export interface Stored extends Decision {
  readonly tag: string
  readonly raised: ReadonlyArray<Where>
}

/** An error of the program that no job fails with: where it is raised, and where it is answered by its name. */
export interface Answered {
  readonly error: string
  readonly raised: ReadonlyArray<Where>
  readonly answered: ReadonlyArray<Where>
  /** Why nothing has to answer it by its name, as audit.json says. */
  readonly reason: string | null
}

/** A word that drops failures or starts fibers, where audit.json allows it. */
export interface Allowed {
  readonly where: Where
  readonly word: string
  readonly reason: string
}

/** What is wrong, each with the name under which the README and the tests know it. */
export type Verdict =
  | "no-places"
  | "no-handler"
  | "untyped"
  | "not-settled"
  | "never-raised"
  | "not-in-table"
  | "word"
  | "unused-entry"

export interface Fault {
  /** Line 0 where it is none of one line. */
  readonly where: Pick<Where, "file" | "line">
  readonly verdict: Verdict
  readonly detail: string
}

export interface Report {
  readonly places: ReadonlyArray<Place>
  readonly forks: ReadonlyArray<Fork>
  readonly stored: ReadonlyArray<Stored>
  readonly answered: ReadonlyArray<Answered>
  readonly allowed: ReadonlyArray<Allowed>
  readonly faults: ReadonlyArray<Fault>
}
