/** Variables of repositories: a person's own. */
import { z } from "zod";
import type { ListedVariable } from "../../../auth/variables.ts";
import { SlipwayError } from "../../../core/error.ts";
import { toIsoTime } from "../../../core/protocol/mapping.ts";
import { pageSchema } from "../../../core/protocol/rest.ts";
import {
  newVariableSchema,
  variableAddressSchema,
  variableSchema,
  type RepositoryVariable,
} from "../../../core/protocol/repositories.ts";
import { EMPTY, json, listQuerySchema, pageOfList, route } from "../../route.ts";

const path = "/v1/variables";

function toWire({ updatedAt, ...variable }: ListedVariable): RepositoryVariable {
  return { ...variable, updatedAt: toIsoTime(updatedAt) };
}

export const variableRoutes = [
  route({
    method: "get",
    path,
    access: "user",
    operation: "listVariables",
    summary: "My variables of repositories; the values of secrets are not shown",
    query: listQuerySchema.extend({ repo: z.string().max(2_000).optional().describe("The address of a repository.") }),
    answers: { 200: json(pageSchema(variableSchema)) },
    problems: ["invalid_repository"],
    async handle({ deps, caller, query: { repo, ...page } }) {
      const rows = await deps.variables.list(caller.userId, repo ?? null);
      const { items, next } = pageOfList(rows, (row) => `${row.name} ${row.repo}`, page);
      return { status: 200, body: { items: items.map(toWire), next } };
    },
  }),
  route({
    method: "post",
    path,
    access: "user",
    scope: null,
    operation: "putVariable",
    summary: "Store a variable for the commands of my tasks on a repository, replacing one of the same name",
    body: newVariableSchema,
    answers: { 201: json(variableSchema) },
    problems: ["invalid_repository"],
    async handle({ deps, caller, act, body: { secret = true, phase = secret ? "setup" : "agent", ...rest } }) {
      return { status: 201, body: toWire(await deps.variables.put(caller.userId, { ...rest, secret, phase }, act)) };
    },
  }),
  route({
    method: "delete",
    path,
    access: "user",
    scope: null,
    operation: "deleteVariable",
    summary: "Delete a variable of a repository",
    query: variableAddressSchema,
    answers: { 204: EMPTY },
    problems: ["not_found", "invalid_repository"],
    async handle({ deps, caller, act, query: { repo, name } }) {
      if (!(await deps.variables.remove(caller.userId, repo, name, act))) throw new SlipwayError("not_found");
      return { status: 204 };
    },
  }),
];
