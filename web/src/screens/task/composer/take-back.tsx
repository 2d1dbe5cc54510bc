/** Takes a message back before the agent reads it: its text returns to the field, to be changed. */
import { ResultLine, useAct } from "../../../components/act.tsx";
import { client } from "../../../lib/client.ts";
import { readDraft, restoreDraft } from "../../../lib/drafts.ts";
import type { Block } from "../../../lib/log/block.ts";
import { useTaskView } from "../task-screen.tsx";

interface TakeBackProps {
  readonly block: Extract<Block, { kind: "person" }>;
  readonly isQueued: boolean;
}

export function TakeBack({ block, isQueued }: TakeBackProps) {
  const { task } = useTaskView();
  const { run, said, isBusy } = useAct();
  /** @returns what is left to do. */
  const takeBack = async (): Promise<string> => {
    await client.withdraw(task.id, block.id ?? "");
    const draft = `message.${task.id}`;
    // The field still has the text while the end of its send is waited for.
    const texts = new Set([block.text, readDraft(draft)]);
    restoreDraft(draft, [...texts].filter((text) => text !== "").join("\n\n"));
    document.getElementById("message")?.focus();
    return block.attachments.length === 0 ? "" : "Attach its files again before you send it.";
  };
  return (
    <div className="acts tight">
      <button
        className={isQueued ? "btn quiet" : "btn quiet unseen"}
        type="button"
        disabled={isBusy || !isQueued}
        onClick={() => void run(takeBack, { done: (text) => text })}
      >
        Take back and edit
      </button>
      <ResultLine said={said} />
    </div>
  );
}
