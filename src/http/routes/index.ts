/** The route table of the server. */
import { attachmentRoutes } from "./attachments.ts";
import { auditRoutes } from "./people/audit.ts";
import { keyRoutes } from "./people/keys.ts";
import { deviceRoutes } from "./people/log-in/device.ts";
import { oauthRoutes } from "./oauth.ts";
import { accountRoutes } from "./people/account.ts";
import { authRoutes, credentialRoutes, tokenRoutes, userRoutes } from "./people/log-in/auth.ts";
import { browserSessionRoutes } from "./people/log-in/browser-session.ts";
import { egressRoutes } from "./egress.ts";
import { capabilityRoutes } from "./capabilities.ts";
import { openapiRoute } from "../openapi/document.ts";
import { operationsRoutes, probeRoutes } from "./operations.ts";
import { linkRoutes, peopleRoutes } from "./people/people.ts";
import { exportRoutes } from "./people/export.ts";
import { usageRoutes } from "./people/usage.ts";
import { passkeyRoutes } from "./people/log-in/passkeys.ts";
import { providerRoutes } from "./people/log-in/providers.ts";
import { notificationRoutes } from "./notifications.ts";
import { variableRoutes } from "./people/variables.ts";
import type { Route } from "../route.ts";
import { pullRequestRoutes } from "./pull-requests.ts";
import { repositoryRoutes } from "./repositories.ts";
import { historyRoutes } from "./history.ts";
import { messageRoutes, taskRoutes } from "./tasks.ts";

const own: readonly Route[] = [
  ...authRoutes,
  ...browserSessionRoutes,
  ...providerRoutes,
  ...passkeyRoutes,
  ...accountRoutes,
  ...tokenRoutes,
  ...credentialRoutes,
  ...variableRoutes,
  ...userRoutes,
  ...peopleRoutes,
  ...linkRoutes,
  ...exportRoutes,
  ...usageRoutes,
  ...auditRoutes,
  ...keyRoutes,
  ...deviceRoutes,
  ...oauthRoutes,
  ...capabilityRoutes,
  ...repositoryRoutes,
  ...attachmentRoutes,
  ...taskRoutes,
  ...messageRoutes,
  ...historyRoutes,
  ...pullRequestRoutes,
  ...notificationRoutes,
  ...operationsRoutes,
  ...egressRoutes,
  ...probeRoutes,
];

export const ROUTES: readonly Route[] = [...own, openapiRoute(own)];
