/** What this device keeps until the server has it, and how it ended. */
import { useState } from "react";
import { Link } from "../../navigation/link.tsx";
import { taskAddress } from "../../navigation/addresses.ts";
import type { OutboxItem } from "../../lib/device/outbox-item.ts";
import { outbox, unstored } from "../../lib/device/outbox.ts";
import { formatClock } from "../../lib/format.ts";
import { useStore } from "../../lib/store.ts";
import { Icon } from "../icon.tsx";
import { takeBack } from "./taking-back.ts";

const LOOKS = { waiting: ["queued", "clock"], sent: ["done", "check"], failed: ["failed", "st-failed"] } as const;
const SHOWN_TEXT = 80;

const cut = (text: string): string => (text.length > SHOWN_TEXT ? `${text.slice(0, SHOWN_TEXT)}…` : text);

function describe({ work }: OutboxItem): string {
  if (work.kind === "submit") return `New task “${cut(work.body.prompt)}”`;
  return work.kind === "message" ? `Message “${cut(work.body.text)}”` : `Answer “${cut(work.body.text)}”`;
}

function getHint({ state, problem, work }: OutboxItem, isStored: boolean): string {
  if (state === "sent") return "";
  const said = state === "failed" ? `Not applied: ${problem ?? ""}` : "";
  const place = isStored ? "" : "Kept in this page only, as the browser could not store it: leave the page open.";
  const once = state === "waiting" && work.kind === "answer" ? "Applied once, if the question is still open." : "";
  return [said, place, once].filter((text) => text !== "").join(" ");
}

/** @param taskId Only what belongs to this task; null = everything. */
export function OutboxCard({ taskId }: { taskId: string | null }) {
  const all = useStore(outbox);
  const inPage = useStore(unstored);
  const [said, setSaid] = useState("");
  const items = taskId === null ? all : all.filter((item) => item.taskId === taskId && item.work.kind !== "submit");
  const words = said !== "" && (
    <p className="hint" role="status">
      {said}
    </p>
  );
  if (items.length === 0) return words;
  const isWaiting = items.some(({ state }) => state === "waiting");
  const areStored = !items.some(({ id }) => inPage.has(id));
  return (
    <section className="card" aria-labelledby="outbox-title">
      <div className="card-top">
        <h2 id="outbox-title">{isWaiting ? "Waiting to be sent" : "Sent from here"}</h2>
        {areStored && <span className="note">kept on this device</span>}
      </div>
      <ul className="checks">
        {items.map((item) => (
          <OutboxRow
            key={item.id}
            item={item}
            isStored={!inPage.has(item.id)}
            onTakeBack={() => setSaid(takeBack(item))}
          />
        ))}
      </ul>
      {words}
    </section>
  );
}

interface OutboxRowProps {
  readonly item: OutboxItem;
  /** False = it lives in this page only. */
  readonly isStored: boolean;
  readonly onTakeBack: () => void;
}

function OutboxRow({ item, isStored, onTakeBack }: OutboxRowProps) {
  const [appearance, icon] = LOOKS[item.state];
  const hint = getHint(item, isStored);
  const label = `${item.state}, ${describe(item)}`;
  return (
    <li className={`st-${appearance}`} aria-label={label}>
      <Icon name={icon} />
      <span>
        {item.state === "sent" && item.taskId !== null ? (
          <Link className="link" to={taskAddress(item.taskId)}>
            {describe(item)}
          </Link>
        ) : (
          describe(item)
        )}
      </span>
      <span className="end">
        {item.state === "sent" ? (item.work.kind === "answer" ? "applied " : "sent ") : ""}
        {formatClock(item.endedAt ?? item.at)}
      </span>
      {hint !== "" && <small>{hint}</small>}
      {item.state !== "sent" && (
        <button className="btn quiet" type="button" onClick={onTakeBack}>
          Take back
        </button>
      )}
    </li>
  );
}
