/** The route of the options for submissions. */
import { capabilitiesSchema } from "../../core/protocol/config.ts";
import { json, route } from "../route.ts";

export const capabilityRoutes = [
  route({
    method: "get",
    path: "/v1/config",
    access: "user",
    operation: "getConfig",
    summary: "Options for submissions: agents, models, efforts, egress policies",
    answers: { 200: json(capabilitiesSchema) },
    async handle({ deps }) {
      return { status: 200, body: deps.tasks.capabilities() };
    },
  }),
];
