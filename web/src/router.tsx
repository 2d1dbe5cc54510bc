/** The addresses of the app. Every screen is loaded when it is opened. */
import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from "@tanstack/react-router";
import { Suspense, useEffect, useState } from "react";
import { UpdateBanner } from "./components/device/update-banner.tsx";
import { Failed, importWithRetry, lazyComponent } from "./lazy-component.tsx";
import { queryClient } from "./lib/client.ts";
import { onAppKeys, type Opened } from "./lib/keys.ts";
import { getPerson, session, startSession } from "./lib/session.ts";
import { useStore } from "./lib/store.ts";
import { startTaskList, stopTaskList, tryNow } from "./lib/tasks/task-list.ts";
import { taskQuery } from "./lib/tasks/task-query.ts";
import { readFilter } from "./lib/tasks/task-filter.ts";
import { NotFound } from "./screens/not-found.tsx";

/** A request that fails is made again. */
const screen: typeof lazyRouteComponent = (get, name) => lazyRouteComponent(() => importWithRetry(get), name);

/** Most visits on a phone never open it. */
const Palette = lazyComponent(async () => (await import("./components/palette.tsx")).Palette);

const KeysSheet = lazyComponent(async () => (await import("./components/keys-sheet.tsx")).KeysSheet);

const PUSH_AFTER_MS = 1_500;

const rootRoute = createRootRoute({ component: Root, notFoundComponent: NotFound });

function Root() {
  const state = useStore(session);
  const userId = state.kind === "active" ? state.user.id : null;
  useEffect(() => {
    if (userId === null) {
      // The session may have become active since this was drawn.
      if (getPerson() === null) stopTaskList();
      return undefined;
    }
    startTaskList(userId);
    // The screen first.
    const timer = setTimeout(
      () => void import("./lib/device/push.ts").then(({ startPush }) => startPush()),
      PUSH_AFTER_MS,
    );
    return () => clearTimeout(timer);
  }, [userId]);
  useEffect(() => {
    addEventListener("online", tryNow);
    return () => removeEventListener("online", tryNow);
  }, []);
  const [opened, setOpened] = useState<Opened | null>(null);
  // The close event of a dialog comes later than its end: the next one may be open by then.
  const close = (): void => setOpened((present) => (present === opened ? null : present));
  useEffect(() => onAppKeys(setOpened, () => void router.navigate({ to: "/new" })), []);
  useEffect(() => {
    const { pathname, href } = router.state.location;
    if (state.kind === "none" && state.endedAt !== null && pathname !== "/login")
      void router.navigate({ to: "/login", search: { next: href } });
  }, [state]);
  return (
    <>
      <UpdateBanner />
      <Outlet />
      {opened !== null && userId !== null && (
        <Suspense key={opened}>
          {opened === "palette" ? <Palette onClose={close} /> : <KeysSheet onClose={close} />}
        </Suspense>
      )}
    </>
  );
}

/** Screens behind the log-in wait for the session, and send people without one to it. */
const privateRoute = createRoute({
  getParentRoute: () => rootRoute,
  id: "private",
  beforeLoad: async ({ location }) => {
    await startSession();
    const person = getPerson();
    if (person === null) redirect({ to: "/login", search: { next: location.href }, throw: true });
    // Before the first screen is drawn, which shows it then.
    else startTaskList(person.id);
  },
});

/** Why the server led a log-in with a provider here. */
const readProblem = (search: Readonly<Record<string, unknown>>): { problem?: string } =>
  typeof search["problem"] === "string" ? { problem: search["problem"] } : {};

const loginRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/login",
  validateSearch: (search): { next?: string; problem?: string } => ({
    ...(typeof search["next"] === "string" && /^\/(?![/\\])/.test(search["next"]) ? { next: search["next"] } : {}),
    ...readProblem(search),
  }),
  component: screen(() => import("./screens/log-in/login.tsx"), "LoginScreen"),
});
const setupRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/setup",
  component: screen(() => import("./screens/log-in/setup.tsx"), "SetupScreen"),
});
const joinRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/join",
  component: screen(() => import("./screens/log-in/join.tsx"), "JoinScreen"),
});
const pairRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/pair",
  component: screen(() => import("./screens/log-in/pair.tsx"), "PairScreen"),
});
const deviceRoute = createRoute({
  getParentRoute: () => privateRoute,
  path: "/device",
  component: screen(() => import("./screens/log-in/device.tsx"), "DeviceScreen"),
});
const loadInbox = () => import("./screens/inbox.tsx");
const inboxRoute = createRoute({
  getParentRoute: () => privateRoute,
  path: "/",
  validateSearch: readFilter,
  component: screen(loadInbox, "Inbox"),
});
const newTaskRoute = createRoute({
  getParentRoute: () => privateRoute,
  path: "/new",
  component: screen(() => import("./screens/new-task.tsx"), "NewTask"),
});
const loadTask = () => import("./screens/task/task-screen.tsx");
const loadChanges = () => import("./screens/task/changes/changes-view.tsx");
const loadConversation = () => import("./screens/task/conversation-view.tsx");
// The router loads a screen when the session is known; these need no such wait.
if (/^\/tasks\/[^/]+\/?$/.test(location.pathname)) void Promise.allSettled([loadTask(), loadConversation()]);
else if (/^\/tasks\/[^/]+\/changes/.test(location.pathname)) void Promise.allSettled([loadTask(), loadChanges()]);
else if (location.pathname === "/") void Promise.allSettled([loadInbox()]);

const taskRoute = createRoute({
  getParentRoute: () => privateRoute,
  path: "/tasks/$id",
  // Asked for while the screen is loaded; the screen says why it fails.
  loader: ({ params }) => void queryClient.prefetchQuery(taskQuery(params.id)),
  component: screen(loadTask, "TaskScreen"),
});
const conversationRoute = createRoute({
  getParentRoute: () => taskRoute,
  path: "/",
  component: screen(loadConversation, "ConversationView"),
});
const changesRoute = createRoute({
  getParentRoute: () => taskRoute,
  path: "/changes",
  component: screen(loadChanges, "ChangesView"),
});
const threadRoute = createRoute({
  getParentRoute: () => taskRoute,
  path: "/thread",
  component: screen(() => import("./screens/task/thread/thread-view.tsx"), "ThreadView"),
});
const machineRoute = createRoute({
  getParentRoute: () => taskRoute,
  path: "/machine",
  component: screen(() => import("./screens/task/machine/machine-view.tsx"), "MachineView"),
});
const consoleRoute = createRoute({
  getParentRoute: () => privateRoute,
  path: "/console",
  component: screen(() => import("./screens/console/console.tsx"), "Console"),
});
const auditRoute = createRoute({
  getParentRoute: () => privateRoute,
  path: "/console/audit",
  component: screen(() => import("./screens/console/audit.tsx"), "Audit"),
});
const egressRoute = createRoute({
  getParentRoute: () => privateRoute,
  path: "/console/egress",
  component: screen(() => import("./screens/console/egress.tsx"), "Egress"),
});
const variablesRoute = createRoute({
  getParentRoute: () => privateRoute,
  path: "/you/variables",
  component: screen(() => import("./screens/you/variables.tsx"), "Variables"),
});
const notificationsRoute = createRoute({
  getParentRoute: () => privateRoute,
  path: "/you/notifications",
  component: screen(() => import("./screens/you/notifications/notifications.tsx"), "Notifications"),
});
const youRoute = createRoute({
  getParentRoute: () => privateRoute,
  path: "/you",
  validateSearch: readProblem,
  component: screen(() => import("./screens/you/you.tsx"), "You"),
});

export const router = createRouter({
  routeTree: rootRoute.addChildren([
    loginRoute,
    setupRoute,
    joinRoute,
    pairRoute,
    privateRoute.addChildren([
      inboxRoute,
      deviceRoute,
      newTaskRoute,
      taskRoute.addChildren([conversationRoute, changesRoute, threadRoute, machineRoute]),
      consoleRoute,
      auditRoute,
      egressRoute,
      variablesRoute,
      youRoute,
      notificationsRoute,
    ]),
  ]),
  defaultErrorComponent: Failed,
  defaultPreload: "intent",
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
