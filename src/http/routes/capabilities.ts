/** The door to what a submission may ask for. */
import { capabilitiesSchema } from "../../core/protocol/rest.ts";
import { json, route } from "../route.ts";

export const capabilityRoutes = [
  route({
    method: "get",
    path: "/v1/config",
    access: "user",
    summary: "What a submission may ask for here: agents, models, efforts, egress policies",
    answers: { 200: json(capabilitiesSchema) },
    async handle({ deps }) {
      return { status: 200, body: deps.tasks.capabilities() };
    },
  }),
];
