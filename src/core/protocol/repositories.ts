/** What a person learns about a repository before a task, and which they used last. */
import { z } from "zod";

const time = z.iso.datetime();

/** Clients branch on them. */
export const CHECK_PROBLEMS = [
  "repo_auth",
  "repo_not_found",
  "repo_unreachable",
  "repo_too_large",
  "repo_empty",
  "branch_not_found",
  "push_auth",
  "push_rejected",
  "push_unknown",
] as const;

export const checkRequestSchema = z.strictObject({
  repo: z.string().min(1).max(2_000).describe("The https address of the repository, without credentials."),
  base: z.string().max(250).optional().describe("The branch to start from; absent = the default branch."),
  branch: z.string().max(250).optional().describe("The branch that is to receive the work."),
});
export type CheckRequest = z.infer<typeof checkRequestSchema>;

const checkProblemSchema = z.strictObject({
  code: z.enum(CHECK_PROBLEMS),
  about: z.enum(["read", "base", "push"]),
  message: z.string().describe("What is wrong and what to do, for people."),
  said: z.string().nullable().describe("The host's own words."),
});
export const repositoryCheckSchema = z.strictObject({
  repo: z.string().describe("The address as a task would have it."),
  name: z.string().describe("The path of the address: owner/name."),
  host: z.string(),
  hasCredential: z.boolean().describe("The person has a git credential for the host."),
  canRead: z.boolean(),
  canPush: z.boolean().nullable().describe("Null = not known. The protection of a branch shows only at the push."),
  defaultBranch: z.string().nullable(),
  branches: z.array(z.string()).describe("At most 500: the default branch first, branches that Slipway made last."),
  branchesTruncated: z.boolean().describe("There are more."),
  forge: z.string().nullable().describe("Where its pull requests would be opened, for example GitHub; null = nowhere."),
  problems: z.array(checkProblemSchema).describe("Empty = a task can begin and push."),
});
export type RepositoryCheck = z.infer<typeof repositoryCheckSchema>;
export type CheckProblem = RepositoryCheck["problems"][number];

export const recentRepositorySchema = z.strictObject({
  repo: z.string(),
  name: z.string().describe("The path of the address: owner/name."),
  host: z.string(),
  base: z.string().nullable().describe("The base branch of the last task; null = it named none."),
  tasks: z.int().describe("How many of the person's newest 500 tasks were in it."),
  usedAt: time.describe("When the last task was submitted."),
});
export type RecentRepositoryRow = z.infer<typeof recentRepositorySchema>;

// ---------------------------------------------------------------- credentials

export const newCredentialSchema = z.strictObject({
  host: z.string().min(1).max(255),
  kind: z.literal("token"),
  token: z
    .string()
    .min(1)
    .max(4_096)
    .regex(/^[\x21-\x7e]+$/, "must be printable ASCII without spaces"),
  username: z
    .string()
    .min(1)
    .max(255)
    .regex(/^[\x21-\x39\x3b-\x7e]+$/, "must be printable ASCII without spaces or colons")
    .optional(),
  repo: z
    .string()
    .min(1)
    .max(2_000)
    .optional()
    .describe("The https address of a repository of the host, to check it with: may it be read and pushed to."),
  check: z.boolean().optional().describe("`false` saves it without asking the host."),
});

/** What the host said about a credential when it was saved. */
const credentialCheckSchema = z.strictObject({
  result: z
    .enum(["passed", "unknown", "skipped"])
    .describe("`unknown`: nobody could be asked, or no answer came. One that the host refuses is not saved."),
  repo: z.string().nullable().describe("The repository that it was checked with."),
  canRead: z.boolean().nullable(),
  canPush: z.boolean().nullable(),
  account: z.string().nullable().describe("Whose token it is, by the forge."),
  scopes: z.array(z.string()).nullable().describe("What the token may do, in the forge's words; null = not known."),
  message: z.string().describe("A sentence for people."),
});

const credentialUseSchema = z.strictObject({
  purpose: z.enum(["check", "read", "push", "pull_request"]),
  repo: z.string(),
});

export const credentialSchema = z.strictObject({
  id: z.string(),
  host: z.string(),
  kind: z.literal("token"),
  username: z.string().nullable(),
  createdAt: time,
  check: credentialCheckSchema.nullable().describe("Null = saved before there were checks."),
  lastUsedAt: time.nullable().describe("To the minute; null = not since it was saved."),
  lastUse: credentialUseSchema.nullable(),
});
type StoredCredential = z.infer<typeof credentialSchema>;
export type CredentialCheck = NonNullable<StoredCredential["check"]>;
/** What a credential was shown to its host for. */
export type CredentialUse = NonNullable<StoredCredential["lastUse"]>;

/** What a forge says about a token, without a repository. */
export type TokenAnswer =
  | {
      readonly kind: "known";
      /** User name; null = the token may not read it. */
      readonly account: string | null;
      /** As the forge calls them; null = it does not say. */
      readonly scopes: readonly string[] | null;
      /** Whether these scopes let it push anywhere; null = not known. */
      readonly mayPush: boolean | null;
      /** What a token must be allowed to do, as an instruction to a person. */
      readonly needs: string;
    }
  | { readonly kind: "refused"; readonly said: string }
  /** The forge knows the token, or a kind of token that its API cannot be asked about. */
  | { readonly kind: "unreadable" };

// ---------------------------------------------------------------- variables

/**
 * Variables of a repository: values that a person gives to the commands of their tasks there.
 * Names that would change the loader, the shell, git or Slipway itself are not taken.
 */
export const VARIABLE_PHASES = ["setup", "agent"] as const;
/** Which commands get it: those of the setup alone, or also those of the agent. */
export type VariablePhase = (typeof VARIABLE_PHASES)[number];

/** A variable with its value, as commands get it. */
export interface Variable {
  readonly name: string;
  readonly value: string;
  /** It is redacted wherever it shows up. */
  readonly secret: boolean;
  readonly phase: VariablePhase;
}

/** Variables of one repository, bytes of one value, and bytes of all values of a repository. */
export const VARIABLES = 50;
export const VARIABLE_BYTES = 16 * 1_024;
export const VARIABLES_BYTES = 64 * 1_024;
/** Redaction of a shorter text would match unrelated text. */
export const SECRET_LENGTH = 8;

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,99}$/;
const RESERVED = new RegExp(
  `^(?:${[
    "SLIPWAY_.*|ANTHROPIC_.*|GIT_.*|LD_.*|DYLD_.*|MALLOC_.*|GLIBC_TUNABLES|GCONV_PATH|BASH.*|SHELLOPTS",
    "PATH|HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|SHLVL|_|IFS|ENV|CDPATH|GLOBIGNORE|PROMPT_COMMAND|PS[0-4]",
    "NODE_OPTIONS|NODE_PATH|NODE_COMPILE_CACHE|(?:HTTPS?|ALL|NO|FTP)_PROXY|CI|PAGER|TERM|NO_COLOR",
  ].join("|")})$`,
  "i",
);

const LONE_SURROGATE = /\p{Surrogate}/u;

/** What is wrong with the name, as the end of a sentence; null = nothing. */
export function explainVariableName(name: string): string | null {
  if (!NAME.test(name)) return "must have letters, digits and _ only, no digit first, and 100 characters at most";
  return RESERVED.test(name) ? "is set by Slipway or changes how programs start; choose another name" : null;
}

export const variableBytes = (value: string): number => new TextEncoder().encode(value).length;

/** The same of a value. Never contains the value. */
export function explainVariableValue(value: string, secret: boolean): string | null {
  if (value.includes("\0") || LONE_SURROGATE.test(value)) return "must be text without NUL";
  if (variableBytes(value) > VARIABLE_BYTES) return `must have at most ${VARIABLE_BYTES} bytes`;
  if (secret && value.trim().length < SECRET_LENGTH)
    return `must have at least ${SECRET_LENGTH} characters as a secret: a shorter one cannot be redacted`;
  return null;
}

const variableNameSchema = z
  .string()
  .max(200)
  .superRefine((name, context) => {
    const problem = explainVariableName(name);
    if (problem !== null) context.addIssue({ code: "custom", message: problem });
  });

const phase = z.enum(VARIABLE_PHASES).describe("setup = only before the agent begins; agent = also after that.");

export const newVariableSchema = z
  .strictObject({
    repo: z.string().min(1).max(2_000).describe("The https address of the repository."),
    name: variableNameSchema,
    value: z.string().max(100_000),
    secret: z.boolean().optional().describe("True unless it is said; a secret is never shown again."),
    phase: phase.optional(),
  })
  .superRefine(({ value, secret = true }, context) => {
    const problem = explainVariableValue(value, secret);
    if (problem !== null) context.addIssue({ code: "custom", path: ["value"], message: problem });
  });
export type NewVariable = z.infer<typeof newVariableSchema>;

export const variableSchema = z.strictObject({
  repo: z.string(),
  name: z.string(),
  secret: z.boolean(),
  phase,
  /** Null for a secret. */
  value: z.string().nullable(),
  updatedAt: z.iso.datetime(),
});
export type RepositoryVariable = z.infer<typeof variableSchema>;

export const variableAddressSchema = z.strictObject({
  repo: z.string().min(1).max(2_000).describe("The address of the repository."),
  name: z.string().max(200).describe("The name of the variable."),
});
export type VariableAddress = z.infer<typeof variableAddressSchema>;
