/** Routes of the egress allowlists. */
import { z } from "zod";
import { egressChangeSchema, egressListSchema } from "../../core/protocol/rest.ts";
import { json, route } from "../route.ts";

const path = "/v1/ops/egress";

export const egressRoutes = [
  route({
    method: "get",
    path,
    access: "operator",
    operation: "getEgressHosts",
    summary: "Hosts that tasks with egress allowlist may reach; with a repository: its additional hosts",
    query: z.strictObject({ repo: z.string().max(2_000).optional().describe("The address of a repository.") }),
    answers: { 200: json(egressListSchema) },
    problems: ["invalid_repository"],
    async handle({ deps, query }) {
      return { status: 200, body: await deps.egress.list(query.repo ?? null) };
    },
  }),
  route({
    method: "post",
    path,
    access: "operator",
    operation: "changeEgressHosts",
    summary: "Change the hosts that tasks with egress allowlist may reach",
    body: egressChangeSchema,
    answers: { 200: json(egressListSchema) },
    problems: ["invalid_repository"],
    async handle({ deps, identity, body }) {
      const { repo = null, ...change } = body;
      const changed = await deps.egress.change(repo, change);
      deps.log.info({ by: identity.userId, repo: changed.repo, ...change }, "an operator changed an egress allowlist");
      return { status: 200, body: changed };
    },
  }),
];
