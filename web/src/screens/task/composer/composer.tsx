/** Writes to the agent: now or after its turn; to a settled task it begins a follow-up. */
import { taskAddress } from "../../../navigation/addresses.ts";
import { navigateFromHere } from "../../../navigation/history.tsx";
import { Suspense, useEffect, useRef, useState, type RefObject } from "react";
import { lazyComponent } from "../../../lazy-component.tsx";
import { ResultLine, useAct } from "../../../components/act.tsx";
import { AttachList, FileButton, takesFiles } from "../../../components/forms/attachments.tsx";
import { useAttaching } from "../../../lib/attachments/attaching.ts";
import { Icon } from "../../../components/icon.tsx";
import { Sheet } from "../../../components/sheet.tsx";
import { problemText } from "../../../lib/client.ts";
import type { Todo } from "../../../lib/log/outline.ts";
import { dispatch } from "../../../lib/device/outbox.ts";
import { newKey } from "../../../../../src/client/transport.ts";
import { markDrafts, useDraft } from "../../../lib/drafts.ts";
import { formatUsd } from "../../../lib/format.ts";
import { putTask } from "../../../lib/tasks/task-list.ts";
import { isSettled } from "../../../lib/tasks/task-view.ts";
import { useTaskView } from "../task-screen.tsx";
import type { MessageRequest } from "../../../../../src/core/protocol/rest.ts";

/** Behind a tap. */
const TodoSheet = lazyComponent(async () => (await import("./todo-sheet.tsx")).TodoSheet);

type Mode = "steer" | "follow_up" | "interrupt";

/** An interruption ends what runs; the others wait for it. */
const toRequest = (mode: Mode): Pick<MessageRequest, "mode" | "interrupt"> =>
  mode === "interrupt" ? { mode: "steer", interrupt: true } : { mode };

const isTouch = (): boolean => matchMedia("(pointer: coarse)").matches;

export function Composer() {
  const { task, log } = useTaskView();
  const draft = `message.${task.id}`;
  const [text, setText] = useDraft(draft);
  const attaching = useAttaching(`files.${task.id}`);
  const [mode, setMode] = useState<Mode>("steer");
  const [updateBase, setUpdateBase] = useState(false);
  const { run, said, isBusy } = useAct();
  const ended = isSettled(task);
  const form = useRef<HTMLFormElement>(null);
  const [isOpen, open] = useOpenUntilLeft(form);
  const isIdle =
    !isOpen && text === "" && attaching.items.length === 0 && said === null && mode === "steer" && !updateBase;

  /** Without a network the message waits in the outbox, which the conversation shows. */
  const send = async (): Promise<void> => {
    const how = ended ? { updateBase } : toRequest(mode);
    const body = { text, ...how, ...attaching.request };
    const isSame = markDrafts(draft);
    const goOn = navigateFromHere();
    const sent = await dispatch({ kind: "message", taskId: task.id, body }, newKey());
    if (isSame()) setText("");
    attaching.drop(attaching.items);
    // An interruption is asked for each time.
    if (mode === "interrupt") setMode((now) => (now === mode ? "steer" : now));
    if (sent.kind === "sent" && sent.receipt.kind === "follow_up") {
      putTask(sent.receipt.task);
      await goOn(taskAddress(sent.receipt.task.id));
    }
  };

  const canSend = text.trim() !== "" && !isBusy && !attaching.isBusy;
  return (
    <div className="dock">
      <form
        ref={form}
        className={isIdle ? "composer idle" : "composer"}
        aria-label="Write to the agent"
        {...takesFiles(attaching)}
        onSubmit={(event) => {
          event.preventDefault();
          if (canSend) void run(send, { problem: (thrown) => `${problemText(thrown)} The text is kept.` });
        }}
      >
        <TodoBar todo={log.conversation.todo} />
        <ResultLine said={said} />
        <AttachList attaching={attaching} />
        <label className="sr" htmlFor="message">
          Message
        </label>
        <textarea
          id="message"
          rows={Math.min(8, text.split("\n").length)}
          placeholder={ended ? "Follow up" : "Message"}
          value={text}
          onFocus={open}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing || isTouch()) return;
            event.preventDefault();
            event.currentTarget.form?.requestSubmit();
          }}
        />
        <div className="composer-row">
          <FileButton label="Attach files" icon="clip" attaching={attaching} />
          {!ended && <ModeChoice mode={mode} onPick={setMode} />}
          {ended && <MergeTick base={task.base ?? "base"} isChecked={updateBase} onChange={setUpdateBase} />}
          <button className="sendbtn" type="submit" aria-label="Send" disabled={!canSend}>
            <Icon name="send" />
          </button>
        </div>
      </form>
    </div>
  );
}

/**
 * Open from the first touch of the field until the person is elsewhere. On a small screen an idle
 * composer is one line, so it must not change its height between the press and the release of a
 * tap: a click outside counts, or the focus that a key moved.
 */
function useOpenUntilLeft(form: RefObject<HTMLFormElement | null>): readonly [boolean, () => void] {
  const [isOpen, setOpen] = useState(false);
  useEffect(() => {
    if (!isOpen) return undefined;
    const close = ({ type, target }: Event): void => {
      if (!(target instanceof Element) || form.current?.contains(target) === true) return;
      if (type === "click" || target.matches(":focus-visible")) setOpen(false);
    };
    addEventListener("click", close);
    addEventListener("focusin", close);
    return () => {
      removeEventListener("click", close);
      removeEventListener("focusin", close);
    };
  }, [isOpen, form]);
  return [isOpen, () => setOpen(true)];
}

interface MergeTickProps {
  readonly base: string;
  readonly isChecked: boolean;
  readonly onChange: (isChecked: boolean) => void;
}

function MergeTick({ base, isChecked, onChange }: MergeTickProps) {
  return (
    <label className="grow note tick">
      <input type="checkbox" checked={isChecked} onChange={(event) => onChange(event.target.checked)} />
      <span>New task on the same branch; merge the newest {base} first</span>
    </label>
  );
}

const MODES: readonly (readonly [mode: Mode, label: string])[] = [
  ["steer", "Steer now"],
  ["follow_up", "After turn"],
  ["interrupt", "Interrupt"],
];

function ModeChoice({ mode, onPick }: { mode: Mode; onPick: (mode: Mode) => void }) {
  return (
    <fieldset className="seg">
      <legend className="sr">When the agent reads it</legend>
      {MODES.map(([value, label]) => (
        <label key={value}>
          <input type="radio" name="mode" checked={mode === value} onChange={() => onPick(value)} />
          <span>{label}</span>
        </label>
      ))}
    </fieldset>
  );
}

function TodoBar({ todo }: { todo: readonly Todo[] }) {
  const { task } = useTaskView();
  const [isOpen, setOpen] = useState(false);
  // While the task may still emit it has its place, so that the composer keeps its own.
  const [wasLive] = useState(!isSettled(task));
  const { usage } = task;
  if (!wasLive && task.todo === null && usage.usd === 0) return null;
  const completed = todo.filter((item) => item.status === "completed").length;
  const current = isSettled(task) ? undefined : todo.find((item) => item.status === "in_progress");
  return (
    <>
      <button className="todo" type="button" onClick={() => setOpen(true)}>
        {todo.length === 0 ? (
          <span className="now muted">Cost</span>
        ) : (
          <>
            <span className="sr">To do: </span>
            <span className="ticks" aria-hidden="true">
              {todo.slice(0, 12).map((item, i) => (
                <i
                  key={`${i} ${item.text}`}
                  className={item.status === "completed" ? "y" : item.status === "in_progress" ? "n" : ""}
                />
              ))}
            </span>
            <span className="num">
              {completed} of {todo.length}
            </span>
            <span className="now">{current?.text ?? ""}</span>
          </>
        )}
        <span className="num">{formatUsd(usage.usd)}</span>
        <Icon name="chev-d" small />
      </button>
      <Sheet
        title={todo.length > 0 ? `To do, ${completed} of ${todo.length}` : "Cost"}
        isOpen={isOpen}
        onClose={() => setOpen(false)}
      >
        <Suspense fallback={<p className="note">Loading…</p>}>
          <TodoSheet todo={todo} />
        </Suspense>
      </Sheet>
    </>
  );
}
