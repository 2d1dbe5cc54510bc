/** The options of an open question as buttons of a row. */
import { Link } from "../../navigation/link.tsx";
import { taskAddress } from "../../navigation/addresses.ts";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { ResultLine } from "../act.tsx";
import { useAnswering } from "./answering.ts";

const SHOWN = 2;
const LONGEST = 28;

export function QuickAnswer({ task }: { task: WireTask }) {
  const { question } = task;
  const { state, text, said, send } = useAnswering(task);
  if (question === null) return null;
  const options = (question.options ?? []).filter((option) => option.length <= LONGEST).slice(0, SHOWN);
  const label = (option: string): string => {
    if (text !== option || state === "closed") return option;
    return state === "sending" ? "Sending…" : `${option}, kept`;
  };
  return (
    <div className="row-acts">
      {options.map((option) => (
        <button
          key={option}
          className="btn line"
          type="button"
          disabled={state !== "open"}
          onClick={() => void send(option)}
        >
          {label(option)}
        </button>
      ))}
      <Link className="btn quiet" to={taskAddress(task.id)}>
        Open
      </Link>
      <ResultLine said={said} />
    </div>
  );
}
