/** Comments on lines of the diff, kept on this device and sent to the agent as one message. */
import { taskAddress } from "../../../navigation/addresses.ts";
import { navigateFromHere } from "../../../navigation/history.tsx";
import { useEffect, useMemo, useRef, useState } from "react";
import { ResultLine, useAct } from "../../../components/act.tsx";
import { Icon } from "../../../components/icon.tsx";
import { Sheet } from "../../../components/sheet.tsx";
import { dispatch } from "../../../lib/device/outbox.ts";
import { newKey } from "../../../../../src/client/transport.ts";
import { readDraft, restoreDraft, useDraft } from "../../../lib/drafts.ts";
import { pluralize } from "../../../lib/format.ts";
import type { Anchor, PatchLine } from "../../../lib/patch.ts";
import { usePerson } from "../../../lib/session.ts";
import { mayDirect } from "../../../lib/tasks/ownership.ts";
import { putTask } from "../../../lib/tasks/task-list.ts";
import { isSettled } from "../../../lib/tasks/task-view.ts";
import { useTaskView } from "../task-screen.tsx";

interface Comment {
  readonly text: string;
  readonly line: string;
}

/** A comment with the line on which it was made. */
export interface KeptComment {
  /** See `keyOf`. */
  readonly key: string;
  readonly text: string;
  readonly anchor: Anchor;
}

export interface Comments {
  /** Those of one file. */
  of(path: string): readonly KeptComment[];
  /** @param before the comment that it replaces. An empty text removes it. */
  put(path: string, line: PatchLine, text: string, before: KeptComment | undefined): void;
  remove(comment: KeptComment): void;
  readonly all: readonly (readonly [string, Comment])[];
  /** After these were sent, as they are. */
  drop(sent: Comments["all"]): void;
}

export function useComments(taskId: string): Comments {
  const name = `comments.${taskId}`;
  const [draft, setDraft] = useDraft(name);
  return useMemo(() => {
    const stored = parseComments(draft);
    const without = (comment: KeptComment | undefined): Record<string, Comment> =>
      Object.fromEntries(Object.entries(stored).filter(([key]) => key !== comment?.key));
    return {
      of: (path) => Object.entries(stored).flatMap(([key, comment]) => readKept(path, key, comment)),
      put: (path, line, text, before) => {
        const rest = without(before);
        let key = keyOf(path, line);
        // The line that had this number before has a comment too.
        while (Object.hasOwn(rest, key)) key += MOVED;
        setDraft(formatComments(text === "" ? rest : { ...rest, [key]: { text, line: line.text } }));
      },
      remove: (comment) => setDraft(formatComments(without(comment))),
      all: Object.entries(stored),
      drop: (sent) => {
        const rest = parseComments(readDraft(name));
        for (const [key, { text }] of sent) if (rest[key]?.text === text) delete rest[key];
        restoreDraft(name, formatComments(rest));
      },
    };
  }, [draft, setDraft, name]);
}

const formatComments = (comments: Readonly<Record<string, Comment>>): string =>
  Object.keys(comments).length === 0 ? "" : JSON.stringify(comments);

function parseComments(text: string): Record<string, Comment> {
  try {
    return text === "" ? {} : (JSON.parse(text) as Record<string, Comment>);
  } catch {
    return {};
  }
}

/** Ends the key of a comment whose place is taken. */
const MOVED = "~";

/** A removed line and the one in its place may have the same number. */
const keyOf = (path: string, { number, kind }: PatchLine): string =>
  `${path}:${number}${kind === "del" ? " (removed)" : ""}`;

function readKept(path: string, key: string, { text, line }: Comment): KeptComment[] {
  const [, number, removed] = /^(\d+)( \(removed\))?~*$/.exec(key.slice(path.length + 1)) ?? [];
  if (number === undefined || !key.startsWith(`${path}:`)) return [];
  const kind = removed === undefined ? "same" : "del";
  return [{ key, text, anchor: { kind, number: Number(number), text: line } }];
}

interface CommentProps {
  readonly comment: KeptComment;
  /** Where the line is now; null = it is gone. */
  readonly line: PatchLine | null;
  readonly onRemove: () => void;
}

export function CommentOfLine({ comment, line, onRemove }: CommentProps) {
  return (
    <div className="said">
      <p className="who">
        <b>You</b> <span>{line === null ? "on a line that is gone" : `line ${line.number}`}, not sent yet</span>
      </p>
      {line === null && <p className="note mono">{comment.anchor.text}</p>}
      <p>{comment.text}</p>
      {line === null && (
        <button className="btn quiet" type="button" onClick={onRemove}>
          Remove the comment
        </button>
      )}
    </div>
  );
}

interface LineEditorProps {
  readonly line: PatchLine;
  /** True = it was changed or removed while somebody wrote. */
  readonly isGone: boolean;
  readonly text: string;
  /** True = the line has a comment, which can be removed. */
  readonly isKept: boolean;
  /** The step that led to the line, whose button keeps the focus; 0 = none did. */
  readonly step: -1 | 0 | 1;
  readonly onType: (text: string) => void;
  readonly onMove: (step: -1 | 1) => void;
  /** An empty text removes the comment. */
  readonly onKeep: (text: string) => void;
  readonly onClose: () => void;
}

export function LineEditor({ line, isGone, text, isKept, step, onType, onMove, onKeep, onClose }: LineEditorProps) {
  const steps = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    // Steps by the arrow keys leave the focus at the lines.
    if (step === 0 || document.activeElement?.closest(".diff-scroll") !== null) return;
    steps.current?.querySelector<HTMLElement>(`button:${step === 1 ? "last" : "first"}-child`)?.focus();
  }, [step]);
  return (
    <div className="said">
      <div className="linebar">
        <label className="label where" htmlFor="line-comment">
          Comment on line {line.number}
          {isGone && ", which the agent has changed"}
        </label>
        <span ref={steps}>
          <button className="iconbtn" type="button" aria-label="Line before" onClick={() => onMove(-1)}>
            <Icon name="chev-d" className="flip" />
          </button>
          <button className="iconbtn" type="button" aria-label="Line after" onClick={() => onMove(1)}>
            <Icon name="chev-d" />
          </button>
        </span>
      </div>
      <textarea
        className="input low"
        id="line-comment"
        rows={2}
        value={text}
        onChange={(event) => onType(event.target.value)}
      />
      <div className="acts">
        <button className="btn line" type="button" onClick={() => onKeep(text.trim())}>
          Keep
        </button>
        {isKept && (
          <button className="btn quiet" type="button" onClick={() => onKeep("")}>
            Remove
          </button>
        )}
        <button className="btn quiet" type="button" onClick={onClose}>
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
  const [key, setKey] = useState(newKey);
  const [prompt, setPrompt] = useState<string | null>(null);
  const person = usePerson();
  if (comments.all.length === 0) return null;
  if (!mayDirect(task, person))
    return <p className="hint">Only {task.owner.email} and admins can send comments to the agent.</p>;
  const send = async (text: string): Promise<void> => {
    const goOn = navigateFromHere();
    const sent = await dispatch({ kind: "message", taskId: task.id, body: { text } }, key);
    comments.drop(comments.all);
    // What is kept after this is another message.
    setKey(newKey());
    if (sent.kind === "sent" && sent.receipt.kind === "follow_up") {
      putTask(sent.receipt.task);
      await goOn(taskAddress(sent.receipt.task.id));
    } else await goOn(taskAddress(task.id));
  };
  return (
    <>
      <ResultLine said={said} />
      <div className="linebar">
        <span className="where">
          In one prompt, which {isSettled(task) ? "begins a new task on the same branch" : "steers the agent now"}.
        </span>
        <button className="btn quiet" type="button" onClick={() => setPrompt(toPrompt(comments))}>
          Edit it
        </button>
      </div>
      <button
        className="btn primary wide"
        type="button"
        disabled={isBusy}
        onClick={() => void run(() => send(toPrompt(comments)))}
      >
        Send {pluralize(comments.all.length, "comment")} to the agent
      </button>
      <Sheet title="The comments as a prompt" isOpen={prompt !== null} onClose={() => setPrompt(null)}>
        <label className="label" htmlFor="batch-prompt">
          Prompt
        </label>
        <textarea
          className="input"
          id="batch-prompt"
          rows={10}
          value={prompt ?? ""}
          onChange={(event) => setPrompt(event.target.value)}
        />
        <ResultLine said={said} />
        <div className="acts">
          <button
            className="btn primary"
            type="button"
            disabled={isBusy || (prompt ?? "").trim() === ""}
            onClick={() => void run(() => send(prompt ?? ""))}
          >
            Send the prompt
          </button>
        </div>
      </Sheet>
    </>
  );
}

function toPrompt({ all }: Comments): string {
  const notes = all.map(([key, { line, text }]) => `${key.replace(/~+$/, "")}\n> ${line}\n${text}`);
  return `Comments on the change:\n\n${notes.join("\n\n")}`;
}
