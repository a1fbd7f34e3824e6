/**
 * What a command may see of the service's environment: nothing but what is named here, by its adapter, or by
 * `OFFLOAD_LLM_ENV`. The keys and settings of the service stay with it.
 */

const names: ReadonlyArray<string> = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "TERM", "TZ", "TMPDIR"]
const prefixes: ReadonlyArray<string> = ["LC_", "XDG_"]

/** How programs of every kind reach the network from behind a proxy: for adapters of remote models. */
export const network: ReadonlyArray<string> = [
  "HTTP_PROXY",
  "HTTPS_PROXY",
  "NO_PROXY",
  "ALL_PROXY",
  "http_proxy",
  "https_proxy",
  "no_proxy",
  "all_proxy",
  "SSL_CERT_FILE",
  "SSL_CERT_DIR",
  "NODE_EXTRA_CA_CERTS",
]

/** Whether every command may see a variable. */
export const isCommon = (name: string): boolean =>
  names.includes(name) || prefixes.some((prefix) => name.startsWith(prefix))

/** The part of `environment` that a command may see, given the further names that are allowed. */
export const allow = (
  environment: Readonly<Record<string, string | undefined>>,
  further: ReadonlyArray<string>,
): Record<string, string> =>
  Object.fromEntries(
    Object.keys(environment)
      .filter((name) => isCommon(name) || further.includes(name))
      // The process's own environment copies each value that is read.
      .flatMap((name) => {
        const value = environment[name]
        return value === undefined ? [] : [[name, value]]
      }),
  )
