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
