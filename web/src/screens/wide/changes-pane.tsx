/** The change beside the conversation of its task: the view of the address `/changes`, narrower. */
import { Link } from "../../navigation/link.tsx";
import { taskAddress } from "../../navigation/addresses.ts";
import { createPortal } from "react-dom";
import { ChangesView } from "../task/changes/changes-view.tsx";
import { useTaskView } from "../task/task-screen.tsx";

export function ChangesPane() {
  const { task } = useTaskView();
  const place = document.getElementById("beside");
  if (place === null) return null;
  return createPortal(
    <aside className="pane changes-pane" aria-labelledby="changes-pane">
      <header className="top">
        <h2 id="changes-pane">Changes</h2>
        <Link className="btn quiet" to={taskAddress(task.id, "changes")} replace>
          Full width
        </Link>
      </header>
      <ChangesView key={task.id} />
    </aside>,
    place,
  );
}
