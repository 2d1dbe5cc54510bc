/**
 * Finds variables that are named like settings and are none: a typing error would be ignored
 * without a word.
 */
import leven from "leven";
import { SETTINGS } from "../options.ts";
import type { Setting } from "./defaults.ts";

/** Variables of the command line, of log-ins and of the compose file. */
const OTHERS = [
  "SLIPWAY_COMMAND",
  "SLIPWAY_CONTEXT",
  "SLIPWAY_CRASH",
  "SLIPWAY_DEBUG",
  "SLIPWAY_DOMAIN",
  "SLIPWAY_EMAIL",
  "SLIPWAY_GITHUB_ALLOW",
  "SLIPWAY_GITHUB_CLIENT_ID",
  "SLIPWAY_GITHUB_CLIENT_SECRET",
  "SLIPWAY_GIT_TOKEN",
  "SLIPWAY_NEW_PASSWORD",
  "SLIPWAY_PASSWORD",
  "SLIPWAY_NTFY_TOKEN",
  "SLIPWAY_POLICY",
  "SLIPWAY_SESSIONS",
  "SLIPWAY_TOKEN",
  "SLIPWAY_URL",
  "SLIPWAY_VARIABLE",
];
/** Log-ins have a name in the variable; tests have variables of their own. */
const FAMILIES = /^SLIPWAY_(?:OIDC_[A-Z0-9_]+|TEST_[A-Z_]+|CHAOS_[A-Z_]+|SIMULATE_[A-Z_]+|REQUIRE_ENGINES|CHROMIUM)$/;
const SETTING_NAMES = Object.values<Setting>(SETTINGS).map(({ env }) => env);
const FORMER_NAMES = Object.values<Setting>(SETTINGS).flatMap(({ formerly }) => formerly?.env ?? []);
const KNOWN: ReadonlySet<string> = new Set([...SETTING_NAMES, ...FORMER_NAMES, ...OTHERS]);
/** A name that differs by more than this share of its letters is another word. */
const FAR = 0.34;

/** One sentence for each. */
export function findUnknownVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  return Object.keys(env)
    .filter((name) => name.startsWith("SLIPWAY_") && !KNOWN.has(name) && !FAMILIES.test(name))
    .toSorted()
    .map((name) => {
      const nearest = findNearest(name);
      const hint = nearest === null ? "`slipway serve --help` lists the settings." : `Did you mean ${nearest}?`;
      return `${name} is no setting, and is ignored. ${hint}`;
    });
}

function findNearest(name: string): string | null {
  const word = name.replace("SLIPWAY_", "");
  const [best] = [...KNOWN]
    .map((known) => ({ known, far: leven(word, known.replace("SLIPWAY_", "")) }))
    .toSorted((a, b) => a.far - b.far);
  return best !== undefined && best.far <= Math.max(1, word.length * FAR) ? best.known : null;
}
