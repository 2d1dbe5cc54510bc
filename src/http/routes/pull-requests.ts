/** The route of a task's pull request, as its forge has it. */
import { pullRequestSchema } from "../../core/protocol/history.ts";
import { toIsoTime } from "../../core/protocol/mapping.ts";
import { json, route } from "../route.ts";

export const pullRequestRoutes = [
  route({
    method: "get",
    path: "/v1/tasks/:id/pull-request",
    access: "user",
    operation: "getPullRequest",
    summary: "The pull request as its forge has it now: state and checks",
    answers: { 200: json(pullRequestSchema) },
    problems: ["not_found"],
    async handle({ deps, identity, params }) {
      const { checks, readAt, ...view } = await deps.tasks.pullRequest(identity, params["id"] ?? "");
      const counts = checks === null ? null : { ...checks, failing: [...checks.failing] };
      return { status: 200, body: { ...view, checks: counts, readAt: readAt === null ? null : toIsoTime(readAt) } };
    },
  }),
];
