/**
 * Texts that are the same for everybody: made once, in each coding, and handed out from the same bytes, so that a reader
 * who takes nothing costs no copy. Each coding has a strong `ETag` of its own.
 */
import { createHash } from "node:crypto"
import { brotliCompressSync, constants, gzipSync } from "node:zlib"
import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"

/** In the order in which they are preferred. */
const codings = ["br", "gzip"] as const
type Coding = (typeof codings)[number]

interface Variant {
  readonly coding?: Coding
  readonly body: Uint8Array
  readonly etag: string
}

export interface Asset {
  readonly contentType: string
  readonly headers: Readonly<Record<string, string>>
  readonly compressed: ReadonlyArray<Variant & { readonly coding: Coding }>
  readonly plain: Variant
}

/** Quick enough to be done while others wait: what is large is compressed by the build. */
const compress: Readonly<Record<Coding, (body: Uint8Array) => Uint8Array>> = {
  br: (body) => brotliCompressSync(body, { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } }),
  gzip: (body) => gzipSync(body),
}

/** `built`: the codings that there are already. */
export const make = (
  body: Uint8Array,
  contentType: string,
  headers: Readonly<Record<string, string>>,
  built: (coding: Coding) => Uint8Array | null = () => null,
): Asset => {
  const digest = createHash("sha256").update(body).digest("base64url").slice(0, 22)
  return {
    contentType,
    headers: { ...headers, vary: "Accept-Encoding" },
    compressed: codings.map((coding) => ({
      coding,
      body: built(coding) ?? compress[coding](body),
      etag: `"${digest}-${coding}"`,
    })),
    plain: { body, etag: `"${digest}"` },
  }
}

/** Whether an `Accept-Encoding` (RFC 9110, 12.5.3) takes a coding; the first mention counts. */
const takes = (header: string, coding: Coding): boolean => {
  const mentions = header.split(",").map((each) =>
    each
      .trim()
      .toLowerCase()
      .split(/\s*;\s*/),
  )
  const [, weight = "q=1"] = mentions.find(([name]) => name === coding) ??
    mentions.find(([name]) => name === "*") ?? [coding, "q=0"]
  return !/^q=0(\.0*)?$/.test(weight)
}

/** Whether an `If-None-Match` (RFC 9110, 13.1.2) has a tag. */
const has = (header: string, etag: string): boolean =>
  header.trim() === "*" || header.split(",").some((each) => each.trim().replace(/^W\//, "") === etag)

/** In the coding that the client takes; `304` where it has it already. */
export const respond = ({
  compressed,
  contentType,
  headers,
  plain,
}: Asset): Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest> =>
  Effect.map(HttpServerRequest.HttpServerRequest, ({ headers: asked }) => {
    const accepted = asked["accept-encoding"] ?? ""
    const { body, coding, etag }: Variant = compressed.find(({ coding }) => takes(accepted, coding)) ?? plain
    const fields = { ...headers, etag }
    if (has(asked["if-none-match"] ?? "", etag)) return HttpServerResponse.empty({ status: 304, headers: fields })
    return HttpServerResponse.uint8Array(body, {
      contentType,
      headers: coding === undefined ? fields : { ...fields, "content-encoding": coding },
    })
  })
