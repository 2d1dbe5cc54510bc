/** The screens of the app by their addresses. Each is loaded when it is opened. */
import { Fragment, Suspense, useEffect, useState, type ReactNode } from "react";
import { Route, Switch } from "wouter";
import { UpdateBanner } from "./components/device/update-banner.tsx";
import { FailureBoundary, lazyComponent, lazyScreen } from "./lazy-component.tsx";
import { loginAddress } from "./navigation/addresses.ts";
import { queryClient } from "./lib/client.ts";
import { onAppKeys, type Opened } from "./lib/keys.ts";
import { AddressProvider, navigate, onPreload, preload, useAddress } from "./navigation/history.tsx";
import { Place } from "./navigation/places.ts";
import { getPerson, session, startSession } from "./lib/session.ts";
import { useStore } from "./lib/store.ts";
import { startTaskList, stopTaskList, tryNow } from "./lib/tasks/task-list.ts";
import { taskQuery } from "./lib/tasks/task-query.ts";
import { NotFound } from "./screens/not-found.tsx";

/** Most visits on a phone never open it. */
const Palette = lazyComponent(async () => (await import("./components/palette.tsx")).Palette);

const KeysSheet = lazyComponent(async () => (await import("./components/keys-sheet.tsx")).KeysSheet);

const PUSH_AFTER_MS = 1_500;

/** The views of a task, by the last part of their address. */
const VIEWS = {
  "": lazyScreen(async () => (await import("./screens/task/conversation-view.tsx")).ConversationView),
  changes: lazyScreen(async () => (await import("./screens/task/changes/changes-view.tsx")).ChangesView),
  thread: lazyScreen(async () => (await import("./screens/task/thread/thread-view.tsx")).ThreadView),
  machine: lazyScreen(async () => (await import("./screens/task/machine/machine-view.tsx")).MachineView),
};

const TaskScreen = lazyScreen(async () => (await import("./screens/task/task-screen.tsx")).TaskScreen);

/** Screens that need no session. */
const PUBLIC = {
  "/login": lazyScreen(async () => (await import("./screens/log-in/login.tsx")).LoginScreen),
  "/setup": lazyScreen(async () => (await import("./screens/log-in/setup.tsx")).SetupScreen),
  "/join": lazyScreen(async () => (await import("./screens/log-in/join.tsx")).JoinScreen),
  "/pair": lazyScreen(async () => (await import("./screens/log-in/pair.tsx")).PairScreen),
};

const PRIVATE = {
  "/": lazyScreen(async () => {
    const { Inbox, loadWide } = await import("./screens/inbox.tsx");
    await loadWide();
    return Inbox;
  }),
  "/new": lazyScreen(async () => (await import("./screens/new-task.tsx")).NewTask),
  "/device": lazyScreen(async () => (await import("./screens/log-in/device.tsx")).DeviceScreen),
  "/console": lazyScreen(async () => (await import("./screens/console/console.tsx")).Console),
  "/console/audit": lazyScreen(async () => (await import("./screens/console/audit.tsx")).Audit),
  "/console/egress": lazyScreen(async () => (await import("./screens/console/egress.tsx")).Egress),
  "/you": lazyScreen(async () => (await import("./screens/you/you.tsx")).You),
  "/you/variables": lazyScreen(async () => (await import("./screens/you/variables.tsx")).Variables),
  "/you/notifications": lazyScreen(
    async () => (await import("./screens/you/notifications/notifications.tsx")).Notifications,
  ),
};

const isView = (view: string): view is keyof typeof VIEWS => Object.hasOwn(VIEWS, view);

const TASK_PATH = /^\/tasks\/(?<id>[^/]+)(?:\/(?<view>\w+))?\/?$/;

onPreload(async (path) => {
  const { id, view = "" } = TASK_PATH.exec(path)?.groups ?? {};
  if (id !== undefined && isView(view)) {
    // Asked for while the screen is loaded; the screen says why it fails.
    if (getPerson() !== null) void queryClient.prefetchQuery(taskQuery(id));
    return Promise.all([TaskScreen.load(), VIEWS[view].load()]);
  }
  const found = Object.entries({ ...PUBLIC, ...PRIVATE }).find(([own]) => own === path);
  return found?.[1].load();
});

session.subscribe(() => {
  const person = getPerson();
  // Before the first screen is drawn, which shows it then.
  if (person !== null) startTaskList(person.id);
});

/**
 * Resolves when the first screen can be drawn at once: React shows what it has to wait for up to
 * 300 ms later than it could.
 */
export const firstScreen = Promise.all([
  preload(location.pathname),
  // Again with the session, which the read of a task needs.
  Object.hasOwn(PUBLIC, location.pathname) ? null : startSession().then(() => void preload(location.pathname)),
]);

export function App() {
  return (
    <AddressProvider>
      <Root />
    </AddressProvider>
  );
}

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
  useEffect(() => {
    if (userId !== null) return onAppKeys(setOpened, () => void navigate("/new"));
    // What was open when the session ended does not open again with the next one.
    setOpened(null);
    return undefined;
  }, [userId]);
  const { key } = useAddress();
  return (
    <>
      <UpdateBanner />
      <FailureBoundary at={key}>
        <Suspense>
          <Screens />
        </Suspense>
      </FailureBoundary>
      {opened !== null && userId !== null && (
        <Suspense key={opened}>
          {opened === "palette" ? <Palette onClose={close} /> : <KeysSheet onClose={close} />}
        </Suspense>
      )}
    </>
  );
}

function Screens() {
  return (
    <Switch>
      {Object.entries(PUBLIC).map(([path, Screen]) => (
        <Route key={path} path={path}>
          <Screen />
          <Place />
        </Route>
      ))}
      {Object.entries(PRIVATE).map(([path, Screen]) => (
        <Route key={path} path={path}>
          <Private>
            <Screen />
          </Private>
        </Route>
      ))}
      <Route path={TASK_PATH}>
        {({ id = "", view = "" }) => (isView(view) ? <Task id={id} view={view} /> : <Missing />)}
      </Route>
      <Route>
        <Missing />
      </Route>
    </Switch>
  );
}

function Missing() {
  return (
    <>
      <NotFound />
      <Place />
    </>
  );
}

function Task({ id, view }: { id: string; view: keyof typeof VIEWS }) {
  const View = VIEWS[view];
  return (
    <Private>
      <TaskScreen id={id} isConversation={view === ""}>
        <View />
      </TaskScreen>
    </Private>
  );
}

/** A screen waits for the session, and sends people without one to log in. */
function Private({ children }: { children: ReactNode }) {
  const state = useStore(session);
  /** Whose screen it is: until the person is led on, it stays as it was when the session ended. */
  const [owner, setOwner] = useState<string | null>(null);
  if (state.kind === "active" && state.user.id !== owner) setOwner(state.user.id);
  const isLeft = state.kind === "none";
  // Who logged out, or deleted the account, does not come back to this screen.
  const isBack = isLeft && (state.endedAt !== null || owner === null);
  useEffect(() => {
    const { pathname, search, hash } = location;
    if (isLeft) void navigate(isBack ? loginAddress(`${pathname}${search}${hash}`) : "/login", { replace: true });
  }, [isLeft, isBack]);
  useEffect(() => void startSession(), []);
  if (owner === null) return null;
  return (
    <Fragment key={owner}>
      {children}
      <Place />
    </Fragment>
  );
}
