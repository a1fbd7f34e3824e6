/**
 * What command lines say of a limit, a login or an outage, in words. Words alone prove little, and a program's own
 * names less: these are phrases that command lines print, and none of them is a name such as `quota_id`.
 */
import type { ComplaintKind } from "./Adapter.js"
import type { Own } from "./Echo.js"

/** One kind of evidence. */
interface Evidence {
  readonly kind: ComplaintKind
  readonly pattern: RegExp
  /** A caller who writes this could have led to the words; by default, who writes the words themselves. */
  readonly suspect?: RegExp
}

const number = (codes: string): RegExp => new RegExp(`(?<!\\d)(?:${codes})(?!\\d)`)

/** A status in running text needs a word beside it: `429` alone may be a line number. */
const status = (kind: ComplaintKind, codes: string): Evidence => ({
  kind,
  pattern: new RegExp(
    `(?<![\\w-])(?:http(?:/[\\d.]+)?|(?:api )?error|status(?:[ _]?code)?|code|error[ _]code)["']?[\\s:=(]{0,3}(?:${codes})(?!\\w)`,
    "i",
  ),
  suspect: number(codes),
})

const phrases = (kind: ComplaintKind, ...patterns: ReadonlyArray<string>): Evidence => ({
  kind,
  pattern: new RegExp(`(?<!\\w)(?:${patterns.join("|")})(?!\\w)`, "i"),
})

/** Earlier ones win: a used-up quota is mostly told as a rate limit too. */
const all: ReadonlyArray<Evidence> = [
  phrases(
    "quota",
    "exceed(?:ed|s)? (?:your |the )?(?:[\\w-]+ ){0,2}quota",
    "quota (?:has been |is |was )?(?:exceeded|exhausted|reached|used up)",
    "(?:insufficient|out of) quota|insufficient_quota|quota_exceeded",
    "(?:usage|session|spend|spending|[\\w-]{0,10}hour|daily|weekly|monthly)[ _-]limit[ _](?:has been |is |was )?(?:reached|exceeded|hit)",
    "limit reached ?(?:\\||[^\\w\\s] ?resets)[^\\n]{0,40}",
    "(?:hit|reached|exceeded) your (?:[\\w-]+ ){0,2}limit",
    "credit balance is (?:too low|exhausted|insufficient)|out of credits?|insufficient (?:credits?|funds|balance)",
    "billing[ _](?:hard[ _])?limit[ _](?:has been |is |was )?(?:reached|exceeded)",
    "upgrade to plus",
  ),
  phrases(
    "concurrency",
    "(?:too many|number of|maximum|max) (?:[\\w-]+ ){0,2}(?:concurrent|simultaneous|parallel)",
    "(?:concurrent|simultaneous|parallel) (?:requests?|connections?|sessions?|calls?)",
    "concurrency (?:limit|quota)",
  ),
  status("rate", "429"),
  phrases(
    "rate",
    "rate[ -]limit(?:s|ed)?|rate_limit(?:ed|_error|_exceeded|_reached)|RateLimitError",
    "too many requests",
    "resource[ _](?:has been )?exhausted",
    "throttl(?:ed|ing)(?:exception)?",
  ),
  status("auth", "401"),
  phrases(
    "auth",
    "unauthori[sz]ed|unauthenticated|invalid (?:x-)?(?:api|access)[ -]?(?:key|token)|invalid_api_key",
    "api key (?:not valid|not found|missing|required|expired)|no (?:api )?key (?:found|provided|set)",
    "authentication[ _](?:error|failed|required)|not (?:logged|signed) in",
    "(?:please|run|must|need to) .{0,20}log ?in",
  ),
  status("overloaded", "502|503|504|529"),
  phrases(
    "overloaded",
    "overloaded(?:_error)?(?! (?:function|method|operator|call|constructor))",
    "service unavailable|temporarily unavailable|bad gateway|server busy|at capacity",
    "(?:experiencing|due to) high demand",
  ),
]

/** Which complaint words are that the caller did not write, and could not have led to. */
export const kindOf = (text: string, own: Own): ComplaintKind | undefined =>
  all.find(({ pattern, suspect = pattern }) => pattern.test(text) && !own.some((words) => suspect.test(words)))?.kind

/** The HTTP status that a pattern finds in words of the same sort. */
export const statusIn = (text: string, pattern: RegExp, own: Own): number | undefined => {
  const [, code] = pattern.exec(text) ?? []
  return code === undefined || own.some((words) => number(code).test(words)) ? undefined : Number(code)
}
