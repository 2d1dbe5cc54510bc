/**
 * What is wrong with a field, as the end of a sentence that begins with its name: "must be at least
 * 64". A schema's own message goes before.
 */
import type { z } from "zod";

type Issue = z.core.$ZodRawIssue;
type Words = string | undefined;

const KINDS: Readonly<Record<string, string>> = {
  array: "a list",
  boolean: "true or false",
  int: "a whole number",
  number: "a number",
  object: "an object",
  record: "an object",
  string: "a text",
};
const FORMATS: Readonly<Record<string, string>> = {
  datetime: "a date and time such as 2026-01-31T12:00:00Z",
  email: "an e-mail address",
  safeint: "a whole number",
  url: "an address such as https://example.org",
  uuid: "a UUID",
};
const MOST_SHOWN = 12;

/** For the option `error` of a parse. Undefined = the library's own words. */
export function fieldWords(issue: Issue): Words {
  switch (issue.code) {
    case "invalid_type":
      if (issue.input === undefined) return "is missing";
      return `must be ${KINDS[issue.expected] ?? issue.expected}`;
    case "too_small":
      return limitWords(
        issue.origin,
        issue.exact === true ? "exactly" : issue.inclusive ? "at least" : "more than",
        issue.minimum,
      );
    case "too_big":
      return limitWords(
        issue.origin,
        issue.exact === true ? "exactly" : issue.inclusive ? "at most" : "less than",
        issue.maximum,
      );
    case "invalid_value":
      return valueWords(issue.values.map(String));
    case "invalid_format": {
      const format = FORMATS[issue.format];
      return format === undefined ? "does not have the form that it needs" : `must be ${format}`;
    }
    case "not_multiple_of":
      return `must be a multiple of ${issue.divisor}`;
    case "invalid_union":
      return unionWords(issue.errors);
    default:
      return undefined;
  }
}

/** The form with the fewest mistakes is the one that was meant, if it knows all the fields. */
function unionWords(forms: readonly (readonly z.core.$ZodIssue[])[]): string {
  const [meant] = forms
    .filter((issues) => !issues.some(({ code }) => code === "unrecognized_keys"))
    .toSorted((a, b) => a.length - b.length);
  const mistake = meant?.[0];
  if (mistake === undefined) return "has none of the forms that it can have";
  const field = mistake.path.map(String).join(".");
  return field === "" ? mistake.message : `has a wrong field: ${field} ${mistake.message}`;
}

function limitWords(origin: string, relation: string, limit: number | bigint): string {
  if (origin === "string") return `must have ${relation} ${limit} character${Number(limit) === 1 ? "" : "s"}`;
  if (origin === "array" || origin === "set")
    return `must have ${relation} ${limit} item${Number(limit) === 1 ? "" : "s"}`;
  return `must be ${relation} ${limit}`;
}

function valueWords(values: readonly string[]): string {
  if (values.length === 1) return `must be ${values[0]}`;
  const more = values.length > MOST_SHOWN ? `, and ${values.length - MOST_SHOWN} more` : "";
  return `must be one of ${values.slice(0, MOST_SHOWN).join(", ")}${more}`;
}
