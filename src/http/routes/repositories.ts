/** Routes of repositories before there is a task in them. */
import { z } from "zod";
import { toIsoTime, toRepoName } from "../../core/protocol/mapping.ts";
import {
  checkRequestSchema,
  recentRepositorySchema,
  repositoryCheckSchema,
  type RecentRepositoryRow,
} from "../../core/protocol/repositories.ts";
import type { UsedRepository } from "../../coordinator/services/tasks/pre-flight/recent-repositories.ts";
import { json, route } from "../route.ts";

const toRecent = ({ repo, tasks, last }: UsedRepository): RecentRepositoryRow => ({
  repo,
  name: toRepoName(repo),
  host: new URL(repo).host,
  base: last.spec.base,
  tasks,
  usedAt: toIsoTime(last.createdAt),
});

export const repositoryRoutes = [
  route({
    method: "post",
    path: "/v1/repositories/check",
    access: "user",
    operation: "checkRepository",
    summary: "Before a task: can it be read, may the work be pushed, which branches are there",
    body: checkRequestSchema,
    // It changes nothing, so a repeated call may ask again.
    replay: "handler",
    answers: { 200: json(repositoryCheckSchema) },
    problems: ["invalid_repository", "invalid_branch", "rate_limited"],
    async handle({ deps, identity, body }) {
      return { status: 200, body: await deps.tasks.checkRepository(identity, body) };
    },
  }),
  route({
    method: "get",
    path: "/v1/repositories/recent",
    access: "user",
    operation: "listRecentRepositories",
    summary: "The repositories of the caller's tasks, the last used first",
    query: z.strictObject({
      limit: z.coerce.number().int().min(1).max(100).default(20).describe("Most items of the list."),
    }),
    answers: { 200: json(z.strictObject({ items: z.array(recentRepositorySchema) })) },
    async handle({ deps, identity, query }) {
      const items = (await deps.tasks.recentRepositories(identity, query.limit)).map(toRecent);
      return { status: 200, body: { items } };
    },
  }),
];
