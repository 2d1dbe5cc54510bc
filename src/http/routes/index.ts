/** Every call that this server answers. */
import { authRoutes, credentialRoutes, tokenRoutes, userRoutes } from "./auth.ts";
import { egressRoutes } from "./egress.ts";
import { offerRoutes } from "./capabilities.ts";
import { openapiRoute } from "../openapi.ts";
import { opsRoutes, probeRoutes } from "./operations.ts";
import type { Route } from "../route.ts";
import { setupRoutes } from "./setup.ts";
import { historyRoutes, talkRoutes, taskRoutes } from "./tasks.ts";

const own: readonly Route[] = [
  ...authRoutes,
  ...tokenRoutes,
  ...credentialRoutes,
  ...userRoutes,
  ...offerRoutes,
  ...taskRoutes,
  ...talkRoutes,
  ...historyRoutes,
  ...opsRoutes,
  ...egressRoutes,
  ...probeRoutes,
  ...setupRoutes,
];

export const ROUTES: readonly Route[] = [...own, openapiRoute(own)];
