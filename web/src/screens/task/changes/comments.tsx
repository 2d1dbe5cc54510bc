/** Comments on lines of the diff, kept on this device and sent to the agent as one message. */
import { useNavigate } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { ResultLine, useAct } from "../../../components/act.tsx";
import { dispatch, newKey } from "../../../lib/device/outbox.ts";
import { readDraft, writeDraft } from "../../../lib/drafts.ts";
import { pluralize } from "../../../lib/format.ts";
import type { PatchLine } from "../../../lib/patch.ts";
import { usePerson } from "../../../lib/session.ts";
import { mayDirect } from "../../../lib/tasks/ownership.ts";
import { putTask } from "../../../lib/tasks/task-list.ts";
import { useTaskView } from "../task-screen.tsx";

interface Comment {
  readonly text: string;
  readonly line: string;
}

export interface Comments {
  /** @param key `path:line`. */
  get(key: string): Comment | undefined;
  set(key: string, comment: Comment | null): void;
  readonly all: readonly (readonly [string, Comment])[];
  clear(): void;
}

export function useComments(taskId: string): Comments {
  const name = `comments.${taskId}`;
  const [stored, setStored] = useState<Readonly<Record<string, Comment>>>(() => parseComments(readDraft(name)));
  return useMemo(() => {
    const save = (next: Readonly<Record<string, Comment>>): void => {
      setStored(next);
      writeDraft(name, Object.keys(next).length === 0 ? "" : JSON.stringify(next));
    };
    return {
      get: (key) => stored[key],
      set: (key, comment) => {
        const { [key]: _removed, ...rest } = stored;
        save(comment === null ? rest : { ...rest, [key]: comment });
      },
      all: Object.entries(stored),
      clear: () => save({}),
    };
  }, [stored, name]);
}

function parseComments(text: string): Record<string, Comment> {
  try {
    return text === "" ? {} : (JSON.parse(text) as Record<string, Comment>);
  } catch {
    return {};
  }
}

interface LineCommentProps {
  readonly comments: Comments;
  readonly path: string;
  readonly line: PatchLine;
  readonly isEditing: boolean;
  readonly onDone: () => void;
}

export function LineComment({ comments, path, line, isEditing, onDone }: LineCommentProps) {
  const key = `${path}:${line.number}`;
  const known = comments.get(key);
  const [text, setText] = useState(known?.text ?? "");
  if (!isEditing)
    return (
      <div className="said">
        <p className="who">
          <b>You</b> <span>line {line.number}, not sent yet</span>
        </p>
        <p>{known?.text}</p>
      </div>
    );
  const save = (): void => {
    comments.set(key, text.trim() === "" ? null : { text: text.trim(), line: line.text });
    onDone();
  };
  return (
    <div className="said">
      <label className="label" htmlFor="line-comment">
        Comment on line {line.number}
      </label>
      <textarea
        className="input low"
        id="line-comment"
        rows={2}
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
      <div className="acts">
        <button className="btn line" type="button" onClick={save}>
          Keep
        </button>
        <button className="btn quiet" type="button" onClick={onDone}>
          Close
        </button>
      </div>
    </div>
  );
}

/** All comments as one prompt, so that the agent reads them together. */
export function CommentBatch({ comments }: { comments: Comments }) {
  const { task } = useTaskView();
  const { run, said, isBusy } = useAct();
  const [key] = useState(newKey);
  const navigate = useNavigate();
  const person = usePerson();
  if (comments.all.length === 0) return null;
  if (!mayDirect(task, person))
    return <p className="hint docked">Only {task.owner.email} and admins can send comments to the agent.</p>;
  const send = async (): Promise<void> => {
    const notes = comments.all.map(([place, comment]) => `${place}\n> ${comment.line}\n${comment.text}`);
    const body = { text: `Comments on the change:\n\n${notes.join("\n\n")}` };
    const sent = await dispatch({ kind: "message", taskId: task.id, body }, key);
    comments.clear();
    if (sent.kind === "sent" && sent.receipt.kind === "follow_up") {
      putTask(sent.receipt.task);
      await navigate({ to: "/tasks/$id", params: { id: sent.receipt.task.id } });
    } else await navigate({ to: "/tasks/$id", params: { id: task.id } });
  };
  return (
    <div className="docked">
      <ResultLine said={said} />
      <button className="btn primary wide" type="button" disabled={isBusy} onClick={() => void run(send)}>
        Send {pluralize(comments.all.length, "comment")} to the agent
      </button>
    </div>
  );
}
