/** Shows that the page has no connection; the tasks themselves continue. */
import { formatClock } from "../../lib/format.ts";
import { tryNow, type TaskListView } from "../../lib/tasks/task-list.ts";
import { Icon } from "../icon.tsx";

export function OfflineBanner({ list }: { list: TaskListView }) {
  if (list.connection !== "lost") return null;
  const since = list.lostAt === null ? "" : ` since ${formatClock(list.lostAt)}`;
  return (
    <div className="banner st-awaiting" role="alert">
      <Icon name="off" />
      <span className="grow">
        <b>No connection{since}.</b> What you saw is here; the tasks go on without you.
      </span>
      <button className="btn" type="button" onClick={tryNow}>
        Try now
      </button>
    </div>
  );
}
