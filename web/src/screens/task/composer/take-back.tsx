/** Takes a message back before the agent reads it: its text returns to the field, to be changed. */
import { useState } from "react";
import { client, problemText } from "../../../lib/client.ts";
import { readDraft, restoreDraft } from "../../../lib/drafts.ts";
import type { Block } from "../../../lib/log/conversation.ts";
import { useTaskView } from "../task-screen.tsx";

interface TakeBackProps {
  readonly block: Extract<Block, { kind: "person" }>;
  readonly isQueued: boolean;
}

export function TakeBack({ block, isQueued }: TakeBackProps) {
  const { task } = useTaskView();
  const [said, setSaid] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const takeBack = async (): Promise<void> => {
    setBusy(true);
    setSaid(null);
    try {
      await client.withdraw(task.id, block.id ?? "");
      const draft = `message.${task.id}`;
      restoreDraft(draft, [block.text, readDraft(draft)].filter((text) => text !== "").join("\n\n"));
      setSaid(block.attachments.length === 0 ? "" : "Attach its files again before you send it.");
      document.getElementById("message")?.focus();
    } catch (thrown) {
      setSaid(problemText(thrown));
    } finally {
      setBusy(false);
    }
  };
  return (
    <div className="acts tight">
      <button
        className={isQueued ? "btn quiet" : "btn quiet unseen"}
        type="button"
        disabled={isBusy || !isQueued}
        onClick={() => void takeBack()}
      >
        Take back and edit
      </button>
      {said !== null && said !== "" && (
        <p className="hint" role="status">
          {said}
        </p>
      )}
    </div>
  );
}
