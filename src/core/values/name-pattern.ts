/** `*` at the end of an entry stands for anything. */
export function matchesPattern(list: readonly string[], value: string): boolean {
  return list.some((entry) => (entry.endsWith("*") ? value.startsWith(entry.slice(0, -1)) : value === entry));
}
