/** The door to what a submission may ask for. */
import { offerSchema } from "../../core/protocol/rest.ts";
import { json, route } from "../route.ts";

export const offerRoutes = [
  route({
    method: "get",
    path: "/v1/config",
    access: "user",
    summary: "What a submission may ask for here: agents, models, efforts, egress policies",
    answers: { 200: json(offerSchema) },
    async handle({ doors }) {
      return { status: 200, body: doors.service.offer() };
    },
  }),
];
