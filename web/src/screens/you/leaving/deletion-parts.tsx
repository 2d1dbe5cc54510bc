/** What both deletions of an account say and ask: one's own, and an admin's of another person. */
import { pluralize } from "../../../lib/format.ts";

export function WhatGoes({ isOwn }: { isOwn: boolean }) {
  const [have, spent, said] = isOwn
    ? ["Your", "you spent", "you said as an admin in tasks of others, and files you"]
    : ["Their", "they spent", "they said as an admin in tasks of others, and files they"];
  return (
    <>
      <h3 className="over">Is deleted, for good</h3>
      <ul className="read">
        <li>{have} account, log-ins, access tokens, git credentials, variables and devices.</li>
        <li>{have} tasks with their logs, changes, attachments and artifacts.</li>
      </ul>
      <h3 className="over">Stays, and why</h3>
      <ul className="read">
        <li>What {spent}, under a made-up name: the books must equal the bill of the model’s provider.</li>
        <li>The audit log, which names an id and no e‑mail address: its rows are a chain.</li>
        <li>What {said} attached there: they are part of those tasks.</li>
        <li>Branches, commits and pull requests: they belong to the git host.</li>
        <li>Backups of this server, until its operator deletes them.</li>
      </ul>
    </>
  );
}

interface CancelTickProps {
  /** Tasks that have not ended. */
  readonly open: number;
  readonly isOwn: boolean;
  readonly isChecked: boolean;
  readonly onChange: (isChecked: boolean) => void;
}

/**
 * Renders nothing without open tasks. They end with the account, so the person must confirm that.
 */
export function CancelTick({ open, isOwn, isChecked, onChange }: CancelTickProps) {
  if (open === 0) return null;
  return (
    <>
      <label className="tick">
        <input type="checkbox" checked={isChecked} onChange={(event) => onChange(event.target.checked)} />
        <span>
          Cancel {isOwn ? "my" : "their"} {pluralize(open, "open task")}; what was not pushed is lost
        </span>
      </label>
      {!isOwn && <p className="hint">To let them end first, disable the account and keep its tasks, then delete it.</p>}
    </>
  );
}
