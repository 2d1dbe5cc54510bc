/** True when an entry equals the value, or ends in `*` and is a prefix of it. */
export function matchesPattern(list: readonly string[], value: string): boolean {
  return list.some((entry) => (entry.endsWith("*") ? value.startsWith(entry.slice(0, -1)) : value === entry));
}
