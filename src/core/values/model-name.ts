/** Names of models: versions, families and aliases. */
import { matchesPattern } from "./name-pattern.ts";

/** A name goes on with another version number: `claude-opus-5` and `claude-opus-5-9`. */
const VERSION = /^-\d{1,2}(?:\D|$)/;

/** The longest of the known names that is this model's, with or without a date; null = none. */
export function findModel(known: readonly string[], model: string): string | null {
  const matches = known.filter((name) => {
    const rest = model.slice(name.length);
    return model.startsWith(name) && (rest === "" || (rest.startsWith("-") && !VERSION.test(rest)));
  });
  return matches.toSorted((a, b) => b.length - a.length)[0] ?? null;
}

/** `opus` of `claude-opus-5-5`: models of a family share the provider's limits. */
export const familyOf = (model: string): string => /(?:^|[-/.])claude-(?:[\d.-]+-)?([a-z]+)/.exec(model)?.[1] ?? model;

/**
 * The model that an alias such as `opus` stands for: the first of its family that is offered.
 * @returns null when it is no alias.
 */
export function resolveAlias(known: readonly string[], offered: readonly string[], alias: string): string | null {
  return known.find((name) => familyOf(name) === alias && matchesPattern(offered, name)) ?? null;
}

/** The known name that differs least, for a person who mistyped one; null = none is similar. */
export function findNearest(known: readonly string[], typed: string): string | null {
  const ranked = known
    .map((name) => ({
      name,
      distance: Math.min(...[name, name.replace(/^claude-/, "")].map((form) => countEdits(form, typed))),
    }))
    .toSorted((a, b) => a.distance - b.distance);
  const [nearest] = ranked;
  return nearest !== undefined && nearest.distance <= typed.length / 2 ? nearest.name : null;
}

/** Insertions, deletions and changes of characters from one name to the other. */
function countEdits(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [at, char] of [...from].entries()) {
    const next = [at + 1];
    for (let index = 0; index < to.length; index += 1)
      next.push(
        Math.min((next[index] ?? 0) + 1, (row[index + 1] ?? 0) + 1, (row[index] ?? 0) + (to[index] === char ? 0 : 1)),
      );
    row = next;
  }
  return row.at(-1) ?? 0;
}
