/**
 * The part of the worker's environment that programs of the agent inherit: an allow-list. The
 * attempt's token and the broker's address are not on it.
 */

const ALLOWED = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"];

export function allowedEnvironment(): Record<string, string> {
  const allowed = Object.entries(process.env).filter(([name]) => ALLOWED.includes(name) || name.startsWith("LC_"));
  return Object.fromEntries(allowed.flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])));
}
