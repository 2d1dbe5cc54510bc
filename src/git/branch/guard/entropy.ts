/** Values that look random, with names that say "secret": what no rule of a provider knows. */

export interface Hit {
  /** For people; never the value. */
  readonly what: string;
  /** From 1. */
  readonly line: number;
  /** Compared with the base, and never leaves the guard. */
  readonly value: string;
}

const ASSIGNED =
  /(?:secret|token|passw(?:or)?d|api[_-]?key|access[_-]?key|private[_-]?key|credential)[\w-]{0,30}["']?\s{0,4}[:=]\s{0,4}["'`]?([A-Za-z0-9+/_=-]{20,200})(?![A-Za-z0-9+/_=.(-])/gi;
const KEY_ID = /\b(?:AKIA|ASIA)[0-9A-Z]{16}\b/g;
const PLACEHOLDER = /example|placeholder|change_?me|your|dummy|xxxx|0000|1234|abcd|test/i;
/** Bits per character. Words of a language and identifiers are below; random base64 is above 4. */
const LEAST_BITS = 3.6;
const LEAST_HEX_BITS = 3;

export function findRandomValues(text: string): Hit[] {
  const found: Hit[] = [];
  for (const match of text.matchAll(ASSIGNED)) {
    const value = match[1] ?? "";
    if (isRandom(value))
      found.push({ what: "a random value with the name of a secret", line: lineAt(text, match.index), value });
  }
  for (const match of text.matchAll(KEY_ID))
    if (!PLACEHOLDER.test(match[0]))
      found.push({ what: "an AWS access key id", line: lineAt(text, match.index), value: match[0] });
  return found;
}

function isRandom(value: string): boolean {
  if (PLACEHOLDER.test(value) || !/\d/.test(value) || !/[A-Za-z]/.test(value)) return false;
  const isHex = /^[0-9a-f]{32,}$/i.test(value);
  return entropy(value) >= (isHex ? LEAST_HEX_BITS : LEAST_BITS);
}

/** Shannon entropy, bits per character. */
function entropy(value: string): number {
  const counts = new Map<string, number>();
  for (const char of value) counts.set(char, (counts.get(char) ?? 0) + 1);
  return [...counts.values()].reduce((sum, n) => sum - (n / value.length) * Math.log2(n / value.length), 0);
}

export function lineAt(text: string, index: number): number {
  let line = 1;
  for (let at = text.indexOf("\n"); at >= 0 && at < index; at = text.indexOf("\n", at + 1)) line += 1;
  return line;
}
