/** The main navigation: a bar at the bottom of a phone, at the side from 64rem. */
import { Link } from "../navigation/link.tsx";
import { openByButton, PALETTE_KEYS } from "../lib/keys.ts";
import { usePerson } from "../lib/session.ts";
import { serverNow } from "../lib/server-time.ts";
import { getGroup } from "../lib/tasks/task-view.ts";
import { useTaskList } from "../lib/tasks/task-list.ts";
import { Icon } from "./icon.tsx";

export function Bar() {
  const { tasks } = useTaskList();
  const person = usePerson();
  const needs = tasks.filter((task) => getGroup(task, serverNow(), person) === "needs").length;
  const isOperator = person !== null && person.role !== "user";
  return (
    <nav className="bar" aria-label="Main">
      <span className="brand">
        <img className="brand-mark" src="/icons/icon.svg" alt="" width="28" height="28" />
        Slipway
      </span>
      <Link className="tab" to="/">
        <Icon name="inbox" />
        Inbox
        <span className="spoken" aria-live="polite" aria-atomic="true">
          {needs > 0 && (
            <span className="badge">
              {needs}
              <span className="sr"> need you</span>
            </span>
          )}
        </span>
      </Link>
      {isOperator && (
        <Link className="tab" to="/console">
          <Icon name="console" />
          Console
        </Link>
      )}
      <Link className="tab" to="/you">
        <Icon name="person" />
        You
      </Link>
      <button className="tab seek" type="button" onClick={() => openByButton("palette")}>
        <Icon name="search" />
        Search
        <kbd className="kbd">{PALETTE_KEYS}</kbd>
      </button>
      <Link className="btn primary pill new" to="/new">
        <Icon name="plus" />
        New task
      </Link>
    </nav>
  );
}
