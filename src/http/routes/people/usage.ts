/** Who uses how much, and the quotas of people. */
import { z } from "zod";
import type { User } from "../../../core/ports/accounts.ts";
import { mayWithOthers } from "../../../core/roles.ts";
import { SlipwayError } from "../../../core/error.ts";
import { quotaChangeSchema, usageSchema } from "../../../core/protocol/usage.ts";
import { pageSchema } from "../../../core/protocol/rest.ts";
import { json, listQuerySchema, pageOfList, route, type ApiDeps } from "../../route.ts";

async function toWireUsage({ tasks }: ApiDeps, { id, email }: User): Promise<z.infer<typeof usageSchema>> {
  return { user: { id, email }, ...(await tasks.quotas.usage(id)) };
}

const usageQuerySchema = listQuerySchema.extend({
  user: z.string().max(100).optional().describe("Only this person's row."),
});

export const usageRoutes = [
  route({
    method: "get",
    path: "/v1/usage",
    access: "user",
    operation: "listUsage",
    isLarge: true,
    summary: "What I use of my quotas; for operators what everybody uses",
    query: usageQuerySchema,
    answers: { 200: json(pageSchema(usageSchema)) },
    async handle({ deps, identity, query }) {
      const everybody = await deps.accounts.users();
      const isShown = (id: string): boolean => id === identity.userId || mayWithOthers(identity.role, "look");
      const shown = everybody.filter(({ id }) => isShown(id) && (query.user === undefined || id === query.user));
      const { items, next } = pageOfList(shown, ({ id }) => id, query);
      const rows: z.infer<typeof usageSchema>[] = [];
      for (const user of items) rows.push(await toWireUsage(deps, user));
      return { status: 200, body: { items: rows, next } };
    },
  }),
  route({
    method: "post",
    path: "/v1/users/:id/quotas",
    access: "admin",
    scope: null,
    operation: "changeQuotas",
    summary: "Give a person other quotas than the installation's",
    body: quotaChangeSchema,
    answers: { 200: json(usageSchema) },
    problems: ["not_found"],
    async handle({ deps, identity, params, body }) {
      const user = await deps.accounts.user(params["id"] ?? "");
      if (user === null) throw new SlipwayError("not_found", "There is no such person.");
      await deps.tasks.quotas.change(user.id, body);
      deps.log.info({ by: identity.userId, user: user.id, ...body }, "an admin changed the quotas of a person");
      return { status: 200, body: await toWireUsage(deps, user) };
    },
  }),
];
