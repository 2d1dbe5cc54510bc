/** At a desk a task stands between the list and what belongs to it; elsewhere it is alone. */
import { Suspense, type ReactNode } from "react";
import { lazyComponent } from "../../lazy-component.tsx";
import { useWideScreen } from "../../lib/keys.ts";
import { Bar } from "../bar.tsx";

const ListPane = lazyComponent(async () => (await import("./list-pane.tsx")).ListPane);

export function WithList({ children }: { children: ReactNode }) {
  if (!useWideScreen()) return children;
  return (
    <div className="app railed has-list">
      <Bar />
      <Suspense>
        <ListPane />
      </Suspense>
      {children}
      <div id="beside" />
    </div>
  );
}
