import type { Appearance } from "../../lib/tasks/task-view.ts";
import { Icon } from "../icon.tsx";

/** The state as icon and word; `word` differs from the appearance for sub-states. */
export function StatePill({ appearance, word }: { appearance: Appearance; word: string }) {
  return (
    <span className={`pill st-${appearance}`}>
      <Icon name={`st-${appearance}`} />
      {word}
    </span>
  );
}
