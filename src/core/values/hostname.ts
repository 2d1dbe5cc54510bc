/** The grammar of host names, ports and `host:port`. Pure: nothing is resolved. */

/** RFC 1123: labels of at most 63 characters, at most 253 in all; lower case. */
const NAME = /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/;
const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.|$)){4}$/;
/** URL parsers read a name whose last label is a number as an IPv4 address. */
const NUMERIC = /(^|\.)(\d+|0x[0-9a-f]*)$/;
const PORT = /^[1-9]\d{0,4}$/;

export interface HostAndPort {
  /** Lower case. */
  readonly host: string;
  /** 1 to 65535; null when the text names none. */
  readonly port: number | null;
}

/**
 * True for a lower-case DNS name or a dotted IPv4 address; false for IPv6 and other numeric forms.
 */
export function isHostname(host: string): boolean {
  return NUMERIC.test(host) ? IPV4.test(host) : NAME.test(host);
}

/**
 * Parses `host` or `host:port` in any case.
 * @returns null for anything else: user information, a trailing dot, an IPv6 address, a bad port.
 */
export function parseHostAndPort(text: string): HostAndPort | null {
  const [host = "", port, ...rest] = text.toLowerCase().split(":");
  if (rest.length > 0 || !isHostname(host)) return null;
  if (port === undefined) return { host, port: null };
  return PORT.test(port) && Number(port) <= 65_535 ? { host, port: Number(port) } : null;
}
