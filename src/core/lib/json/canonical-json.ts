const NO_KEYS: ReadonlySet<string> = new Set();

/**
 * JSON with the keys of every object sorted, so that equal values have equal texts. Properties that
 * are undefined are left out.
 * @param ignored keys that are left out at every depth.
 */
export function canonicalJson(value: unknown, ignored: ReadonlySet<string> = NO_KEYS): string {
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item, ignored)).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const entries = Object.entries(value)
    .filter(([key, item]) => item !== undefined && !ignored.has(key))
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item, ignored)}`);
  return `{${entries.join(",")}}`;
}
