/** Comments on lines of the diff, kept on this device and sent to the agent as one message. */
import { taskAddress } from "../../../navigation/addresses.ts";
import { navigateFromHere } from "../../../navigation/history.tsx";
import { useEffect, useId, useMemo, useRef, useState } from "react";
import { ResultLine, useAct, type Act } from "../../../components/act.tsx";
import { Icon } from "../../../components/icon.tsx";
import { Sheet } from "../../../components/sheet.tsx";
import { newKey } from "../../../../../src/client/transport.ts";
import { dispatch } from "../../../lib/device/outbox.ts";
import { readDraft, restoreDraft, useDraft } from "../../../lib/drafts.ts";
import { pluralize } from "../../../lib/format.ts";
import { usePerson } from "../../../lib/session.ts";
import { mayDirect } from "../../../lib/tasks/ownership.ts";
import { putTask } from "../../../lib/tasks/task-list.ts";
import { isSettled } from "../../../lib/tasks/task-view.ts";
import { useTaskView } from "../task-screen.tsx";
import type { Place } from "./body/places.ts";

interface Comment {
  readonly text: string;
  readonly line: string;
  /** Of its line; an earlier version of the app did not keep it. */
  readonly near?: Place["near"];
}

/** A comment with its line, which `findPlace` finds in a change that was saved since. */
export interface Kept {
  readonly place: Place;
  readonly text: string;
}

export interface Comments {
  readonly taskId: string;
  /** Of one file. */
  of(path: string): readonly Kept[];
  /** In place of all that the file has. Of two with one key the first one gets it. */
  put(path: string, comments: readonly Kept[]): void;
  readonly all: readonly (readonly [string, Comment])[];
  /** After these were sent, as they are. */
  drop(sent: Comments["all"]): void;
}

export function useComments(taskId: string): Comments {
  const name = `comments.${taskId}`;
  const [draft, setDraft] = useDraft(name);
  return useMemo(() => {
    const all = Object.entries(parseComments(draft));
    return {
      taskId,
      of: (path) => all.flatMap(([key, comment]) => (pathOf(key) === path ? [toKept(key, comment)] : [])),
      put: (path, comments) => {
        const next = Object.fromEntries(all.filter(([key]) => pathOf(key) !== path));
        for (const { place, text } of comments) {
          let key = keyOf(path, place);
          while (Object.hasOwn(next, key)) key += BEFORE;
          next[key] = { text, line: place.text, near: place.near };
        }
        setDraft(formatComments(next));
      },
      all,
      drop: (sent) => {
        const isSent = (comment: Comment): boolean =>
          sent.some(([, { text, line }]) => text === comment.text && line === comment.line);
        const rest = Object.entries(parseComments(readDraft(name))).filter(([, comment]) => !isSent(comment));
        restoreDraft(name, formatComments(Object.fromEntries(rest)));
      },
    };
  }, [draft, setDraft, name, taskId]);
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

const REMOVED = " (removed)";
/** Of a line that had the number before another one. */
const BEFORE = " (before)";
const KEY = /^(.*):(\d+)((?: \((?:removed|before)\))*)$/s;

/** A removed line and the one in its place may have the same number. */
const keyOf = (path: string, { number, isOld }: Place): string => `${path}:${number}${isOld ? REMOVED : ""}`;

export const pathOf = (key: string): string => KEY.exec(key)?.[1] ?? key;

function toKept(key: string, { text, line, near }: Comment): Kept {
  const [, , number = "0", marks = ""] = KEY.exec(key) ?? [];
  return { text, place: { number: Number(number), isOld: marks.includes(REMOVED), text: line, near } };
}

interface KeptCommentProps {
  readonly comment: Kept;
  /** Absent = its line is where it stands. */
  readonly onRemove?: (() => void) | undefined;
}

export function KeptComment({ comment: { place, text }, onRemove }: KeptCommentProps) {
  return (
    <div className="said">
      <p className="who">
        <b>You</b> <span>line {place.number}, not sent yet</span>
      </p>
      <p>{text}</p>
      {onRemove !== undefined && (
        <>
          <GoneLine text={place.text} />
          <div className="acts">
            <button className="btn quiet" type="button" onClick={onRemove}>
              Remove
            </button>
          </div>
        </>
      )}
    </div>
  );
}

export function GoneLine({ text }: { text: string }) {
  return (
    <p className="hint" role="status">
      The line is not in the change any more. It was: <code>{text}</code>
    </p>
  );
}

interface LineEditorProps {
  readonly line: Place;
  readonly text: string;
  /** True = the change does not have the line any more. */
  readonly isGone: boolean;
  /** True = the line has a comment, which can be removed. */
  readonly isKept: boolean;
  /** The step that led to the line, whose button keeps the focus; 0 = none did. */
  readonly step: -1 | 0 | 1;
  readonly onType: (text: string) => void;
  /** Null = there are no lines. */
  readonly onMove: ((step: -1 | 1) => void) | null;
  /** An empty text removes the comment. */
  readonly onKeep: (text: string) => void;
  readonly onClose: () => void;
}

export function LineEditor({ line, text, isGone, isKept, step, onType, onMove, onKeep, onClose }: LineEditorProps) {
  const id = useId();
  const steps = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    // Steps by the arrow keys leave the focus at the lines.
    if (step === 0 || document.activeElement?.closest(".diff-scroll") !== null) return;
    steps.current?.querySelector<HTMLElement>(`button:${step === 1 ? "last" : "first"}-child`)?.focus();
  }, [step]);
  return (
    <div className="said">
      <div className="linebar">
        <label className="label where" htmlFor={id}>
          Comment on line {line.number}
        </label>
        {onMove !== null && (
          <span ref={steps}>
            <button className="iconbtn" type="button" aria-label="Line before" onClick={() => onMove(-1)}>
              <Icon name="chev-d" className="flip" />
            </button>
            <button className="iconbtn" type="button" aria-label="Line after" onClick={() => onMove(1)}>
              <Icon name="chev-d" />
            </button>
          </span>
        )}
      </div>
      {isGone && <GoneLine text={line.text} />}
      <textarea className="input low" id={id} rows={2} value={text} onChange={(event) => onType(event.target.value)} />
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

/** The prompt as the person changed it, kept until it is sent. */
interface Edited {
  /** The one that the comments made when it was changed. */
  readonly of: string;
  readonly text: string;
}

function useEdited(taskId: string): readonly [Edited | null, (edited: Edited | null) => void] {
  const [draft, setDraft] = useDraft(`batch.${taskId}`);
  const edited = useMemo(() => {
    try {
      return draft === "" ? null : (JSON.parse(draft) as Edited);
    } catch {
      return null;
    }
  }, [draft]);
  return [edited, (next) => setDraft(next === null ? "" : JSON.stringify(next))];
}

/** All comments as one prompt, so that the agent reads them together. */
export function CommentBatch({ comments }: { comments: Comments }) {
  const { task } = useTaskView();
  const act = useAct();
  const { run, said, isBusy } = act;
  const [sending, setSending] = useState({ text: "", key: "" });
  const [isOpen, setOpen] = useState(false);
  const [edited, setEdited] = useEdited(task.id);
  const person = usePerson();
  if (comments.all.length === 0) return null;
  if (!mayDirect(task, person))
    return <p className="hint">Only {task.owner.email} and admins can send comments to the agent.</p>;
  const prompt = toPrompt(comments);
  const isEdited = edited?.of === prompt && edited.text.trim() !== "";
  const send = async (text: string): Promise<void> => {
    const goOn = navigateFromHere();
    // Another text is another message; the same one, sent again, is not.
    const key = sending.text === text ? sending.key : newKey();
    setSending({ text, key });
    const sent = await dispatch({ kind: "message", taskId: task.id, body: { text } }, key);
    setEdited(null);
    comments.drop(comments.all);
    // What is kept after this is another message.
    setSending({ text: "", key: "" });
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
          In one prompt{isEdited && ", as you edited it"}, which{" "}
          {isSettled(task) ? "begins a new task on the same branch" : "steers the agent now"}.
        </span>
        <button className="btn quiet" type="button" onClick={() => setOpen(true)}>
          Edit it
        </button>
      </div>
      <button
        className="btn primary wide"
        type="button"
        disabled={isBusy}
        onClick={() => void run(() => send(isEdited ? edited.text : prompt))}
      >
        Send {pluralize(comments.all.length, "comment")} to the agent
      </button>
      <Sheet title="The comments as a prompt" isOpen={isOpen} onClose={() => setOpen(false)}>
        <PromptForm prompt={prompt} edited={edited} onEdit={setEdited} act={act} onSend={send} />
      </Sheet>
    </>
  );
}

interface PromptFormProps {
  readonly prompt: string;
  readonly edited: Edited | null;
  readonly onEdit: (edited: Edited | null) => void;
  readonly act: Act;
  readonly onSend: (text: string) => Promise<void>;
}

function PromptForm({ prompt, edited, onEdit, act: { run, said, isBusy }, onSend }: PromptFormProps) {
  const text = edited?.text ?? prompt;
  return (
    <>
      <label className="label" htmlFor="batch-prompt">
        Prompt
      </label>
      <textarea
        className="input"
        id="batch-prompt"
        rows={10}
        value={text}
        onChange={(event) => onEdit({ of: edited?.of ?? prompt, text: event.target.value })}
      />
      {edited !== null && edited.of !== prompt && (
        <p className="hint" role="status">
          The comments were changed after you edited this prompt.
        </p>
      )}
      <ResultLine said={said} />
      <div className="acts">
        <button
          className="btn primary"
          type="button"
          disabled={isBusy || text.trim() === ""}
          onClick={() => void run(() => onSend(text))}
        >
          Send the prompt
        </button>
        {edited !== null && (
          <button className="btn quiet" type="button" onClick={() => onEdit(null)}>
            Make it of the comments again
          </button>
        )}
      </div>
    </>
  );
}

function toPrompt({ all }: Comments): string {
  const notes = all.map(([place, { line, text }]) => `${place}\n> ${line}\n${text}`);
  return `Comments on the change:\n\n${notes.join("\n\n")}`;
}
