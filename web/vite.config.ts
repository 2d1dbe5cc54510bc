/** The build of the web app. The server serves `dist/web`; nothing in it comes from elsewhere. */
import react from "@vitejs/plugin-react";
import { defineConfig, type HtmlTagDescriptor, type IndexHtmlTransformContext, type Plugin } from "vite";

type Bundle = NonNullable<IndexHtmlTransformContext["bundle"]>;

/** The modules that a screen begins with, by address; boot.ts asks for them by it. */
const SCREENS: Readonly<Record<string, readonly string[]>> = {
  "/": ["inbox"],
  "/new": ["new-task"],
  "/tasks": ["task-screen", "conversation-view"],
  "/tasks/changes": ["task-screen", "changes-view"],
  "/console": ["console"],
  "/you": ["you"],
};

/** The libraries of every screen. What only some screens use comes with them. */
const FRAME = new RegExp(
  "/node_modules/(?:react|react-dom|scheduler|@tanstack|wouter|regexparam)/" +
    "(?!.*(?:infiniteQueryObserver|useInfiniteQuery|mutationObserver|useMutation))|rolldown/runtime",
);

/** The inbox, and the lists that go on, which a task has no part of. */
const INBOX = /\/web\/src\/screens\/inbox\.tsx$|\/@tanstack\/.*\/(?:infiniteQueryObserver|useInfiniteQuery)\.js$/;

/** Small parts of several first screens, and what the app begins with. */
const APP = new RegExp(
  `/web/src/(?:${[
    "main|router",
    "navigation/(?:addresses|history|link|places)",
    "components/(?:act|bar|icon|sheet|sync|page-head|with-list|lifecycle/mini|device/update-banner|device/offline-banner|device/outbox-card)",
    "components/tasks/(?:task-groups|task-row|quick-answer)",
    "lib/(?:client|session|server-time|store|format|keys|theme|drafts)",
    "lib/tasks/(?:task-list|task-view|task-filter|task-query|forecast|ownership)",
    "lib/device/(?:kept|outbox|outbox-item|delivery|push-support)",
  ].join("|")})\\.tsx?$|/src/client/`,
);

/** The frame of a task, and what the preview at a desk shares with it. */
const TASK =
  /\/web\/src\/(?:screens\/task\/(?:task-screen|thread\/thread-cost)|components\/(?:tasks\/with-list|lifecycle\/(?:slip|state-pill)|text\/markdown))\.tsx$/;

/** Of a message and of a new task. */
const ATTACHMENTS = /\/web\/src\/(?:components\/forms\/attachments|lib\/attachments\/)/;

/** The conversation, and what the page of a thread shares with it. */
const CONVERSATION = /\/web\/src\/screens\/task\/(?:conversation-view|blocks|retry\/retry-button)\.tsx$/;

/** The file of the chunk, and those of all that it imports at once. */
function collectFiles(bundle: Bundle, file: string, into: Set<string>): Set<string> {
  const chunk = bundle[file];
  if (chunk?.type !== "chunk" || into.has(file)) return into;
  into.add(file);
  for (const imported of chunk.imports) collectFiles(bundle, imported, into);
  return into;
}

/**
 * boot.ts runs as soon as it is here: it does not wait for the other scripts, and the screen's are
 * listed for it.
 */
const bootFirst: Plugin = {
  name: "slipway-boot-first",
  transformIndexHtml: {
    order: "post",
    handler(_html, { bundle }): HtmlTagDescriptor[] {
      if (bundle === undefined) return [];
      const chunks = Object.values(bundle).filter((file) => file.type === "chunk");
      const find = (name: string): string => {
        const found = chunks.find((chunk) => chunk.name === name);
        if (found === undefined) throw new Error(`the build has no chunk ${name}`);
        return found.fileName;
      };
      const entry = chunks.find(({ isEntry }) => isEntry)?.fileName ?? "";
      const atOnce = collectFiles(bundle, entry, new Set());
      const listed = Object.entries(SCREENS).map(([address, names]) => {
        const files = new Set<string>();
        for (const name of names) collectFiles(bundle, find(name), files);
        return [address, [...files].filter((file) => !atOnce.has(file))];
      });
      return [
        {
          tag: "meta",
          attrs: { name: "slipway-screens", content: JSON.stringify(Object.fromEntries(listed)) },
          injectTo: "head",
        },
        {
          tag: "script",
          injectTo: "head-prepend",
          // The first paint is work for a slow processor, and would come before it.
          attrs: {
            type: "module",
            async: true,
            blocking: "render",
            fetchpriority: "high",
            crossorigin: true,
            src: `/${find("boot")}`,
          },
        },
      ];
    },
  },
};

export default defineConfig({
  root: import.meta.dirname,
  plugins: [react(), bootFirst],
  // The same without what React 17 lacked.
  resolve: { alias: { "use-sync-external-store/shim/index.js": "react" } },
  build: {
    outDir: "../dist/web",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            { name: "boot", test: /\/web\/src\/(?:boot|lib\/device\/lock)\.ts$/, priority: 2 },
            // Each file is a round trip where the network is slow, and few are on their way at once.
            {
              name: "frame",
              test: FRAME,
              priority: 2,
            },
            { name: "app", test: APP, priority: 1 },
            { name: "inbox", test: INBOX, priority: 1 },
            { name: "attachments", test: ATTACHMENTS, priority: 1 },
            { name: "task-screen", test: TASK, priority: 1 },
            { name: "conversation-view", test: CONVERSATION, priority: 1 },
          ],
        },
      },
    },
  },
  // `npx vite` beside a running `npm start`.
  server: { proxy: { "/v1": { target: "http://127.0.0.1:7080", ws: true } } },
});
