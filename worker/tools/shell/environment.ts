/**
 * What programs that the agent starts may know of the worker's own environment: an allow-list. The
 * attempt's token and the broker's address are not on it.
 */

const KEPT = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"];

export function allowedEnvironment(): Record<string, string> {
  const kept = Object.entries(process.env).filter(([name]) => KEPT.includes(name) || name.startsWith("LC_"));
  return Object.fromEntries(kept.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}
