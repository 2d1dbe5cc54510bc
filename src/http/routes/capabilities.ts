/** The route of what a server offers. */
import { configSchema, type FEATURES, type ServerConfig } from "../../core/protocol/config.ts";
import { toIsoTime } from "../../core/protocol/mapping.ts";
import { json, route, type ApiDeps } from "../route.ts";

function describe({ tasks, version, clock }: ApiDeps): ServerConfig {
  const offered = tasks.capabilities();
  const features: (typeof FEATURES)[number][] = [
    ...(offered.pullRequests.forges.length > 0 ? (["pull_requests"] as const) : []),
    ...(offered.images === null ? [] : (["images"] as const)),
    ...(offered.models.length > 0 ? (["models"] as const) : []),
    "web_push",
    ...(offered.egress.includes("allowlist") ? (["egress_lists"] as const) : []),
  ];
  return { ...offered, version, serverTime: toIsoTime(clock.now()), features };
}

export const capabilityRoutes = [
  route({
    method: "get",
    path: "/v1/config",
    access: "user",
    operation: "getConfig",
    summary: "Options for submissions, their defaults, bounds and prices; the server's version and time",
    answers: { 200: json(configSchema) },
    async handle({ deps }) {
      return { status: 200, body: describe(deps) };
    },
  }),
];
