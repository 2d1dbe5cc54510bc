/**
 * The guard before a push: what is found in a change, and how a person decides about it. A finding
 * never holds what it was found in.
 */
import { z } from "zod";

export const FINDING_KINDS = [
  "secret",
  "large_file",
  "large_change",
  "generated",
  "workflow",
  "link",
  "nested_repository",
  "lock_file",
] as const;
export type FindingKind = (typeof FINDING_KINDS)[number];

/** The value of a secret variable: no rule lets it pass, and no person. */
const VARIABLE = "variable";

export interface KnownSecret {
  readonly name: string;
  readonly value: string;
}

export const findingSchema = z.strictObject({
  kind: z.enum([...FINDING_KINDS, VARIABLE]),
  /** Empty for a finding about the whole change. */
  path: z.string(),
  /** For people, without a full stop. */
  detail: z.string(),
  /** It holds the push back until a person decides. */
  holds: z.boolean(),
});
export type Finding = z.infer<typeof findingSchema>;

/** Before the rules say whether it holds the push back. */
export type Found = Omit<Finding, "holds">;

export interface GuardRules {
  /** Bytes of one file, and of all new files together. */
  readonly fileBytes: number;
  readonly totalBytes: number;
  /** Kinds that hold a push back until a person decides; others are told. Empty = no guard. */
  readonly asks: readonly FindingKind[];
}

/** A lock file changes with most dependencies: it is told, and holds nothing back. */
export const DEFAULT_GUARD: GuardRules = {
  fileBytes: 10 * 2 ** 20,
  totalBytes: 50 * 2 ** 20,
  asks: FINDING_KINDS.filter((kind) => kind !== "lock_file"),
};

/** Whether a person may say to push it anyway. */
export const isPushable = (findings: readonly Pick<Finding, "kind">[]): boolean =>
  findings.every(({ kind }) => kind !== VARIABLE);

/** Findings that are named in a text; more are counted. */
const NAMED = 20;
const TEXT_LENGTH = 3_500;

export function describeFindings(findings: readonly Finding[]): string {
  const lines = findings
    .slice(0, NAMED)
    .map(({ path, detail }) => `- ${path === "" ? detail : `${JSON.stringify(path).slice(1, -1)}: ${detail}`}`);
  const more = findings.length - lines.length;
  return [...lines, ...(more > 0 ? [`- and ${more} more`] : [])].join("\n").slice(0, TEXT_LENGTH);
}

// ---------------------------------------------------------------- the question

/** Prefix of the question's id; workers may not use it. */
const PREFIX = "guard_";
export const isGuardQuestion = (id: string): boolean => id.startsWith(PREFIX);

export const GUARD_OPTIONS = ["push anyway", "leave these out", "stop"] as const;
export type GuardChoice = "push" | "leave_out";

/** The id depends on the commit and what was found: a decision holds for nothing else. */
export function guardQuestion(sha: string, findings: readonly Finding[]) {
  // A change that is too large as a whole has no file to leave out.
  const options = GUARD_OPTIONS.filter((option) => {
    if (option === "push anyway") return isPushable(findings);
    return option === "stop" || findings.every(({ path }) => path !== "");
  });
  return {
    id: `${PREFIX}${sha.slice(0, 16)}_${findings.length}`,
    question: `The push waits for you. In what would be pushed there is:\n${describeFindings(findings)}`,
    options,
  };
}

/** @returns null when the text is none of the options that are offered. */
export function readGuardAnswer(text: string, offered: readonly string[]): GuardChoice | "stop" | null {
  const answer = text.trim().replace(/[.!]+$/, "");
  if (/^(?:push(?: it)?(?: anyway)?|yes|y|ok)$/i.test(answer)) return offered.includes("push anyway") ? "push" : null;
  if (/^leave (?:(?:these|them|it) )?out$/i.test(answer))
    return offered.includes("leave these out") ? "leave_out" : null;
  return /^(?:stop|no|n)$/i.test(answer) ? "stop" : null;
}
