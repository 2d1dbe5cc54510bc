import type { Look } from "../../lib/task-view.ts";
import { Icon } from "../icon.tsx";

/** The state as icon and word; `word` differs from the look for sub-states. */
export function StatePill({ look, word }: { look: Look; word: string }) {
  return (
    <span className={`pill st-${look}`}>
      <Icon name={`st-${look}`} />
      {word}
    </span>
  );
}
