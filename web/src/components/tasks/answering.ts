/** The answer that this device gives to a question: on its way, kept, or not applied. */
import { useState } from "react";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { dispatch, outbox } from "../../lib/device/outbox.ts";
import { newKey } from "../../../../src/client/transport.ts";
import type { OutboxItem } from "../../lib/device/outbox-item.ts";
import { useStore } from "../../lib/store.ts";
import { putTask } from "../../lib/tasks/task-list.ts";
import { useAct, type ActResult } from "../act.tsx";

/** Of this screen; what it comes to later is in the outbox. */
interface Given {
  readonly questionId: string;
  readonly text: string;
  readonly isLate: boolean;
}

interface Answering {
  /** Another answer is taken when it is "open". */
  readonly state: "open" | "sending" | "waiting" | "closed";
  /** The answer that is on its way or waits. */
  readonly text: string | null;
  /** What the outbox has of it, also after a reload; null = nothing that may be applied. */
  readonly item: OutboxItem | null;
  readonly said: ActResult | null;
  /** @returns whether it is sent, or kept to be sent. */
  send(text: string): Promise<boolean>;
}

const isAnswerTo = ({ work }: OutboxItem, questionId: string | undefined): boolean =>
  work.kind === "answer" && work.body.questionId === questionId;

export function useAnswering(task: WireTask): Answering {
  const kept = useStore(outbox);
  const [last, setLast] = useState<Given | null>(null);
  const { run, said } = useAct();
  const questionId = task.question?.id;
  const given = last?.questionId === questionId ? last : null;
  const item = kept.find((one) => one.state !== "failed" && isAnswerTo(one, questionId)) ?? null;

  const send = async (text: string): Promise<boolean> => {
    if (questionId === undefined) return false;
    const body = { questionId, text };
    setLast({ questionId, text, isLate: false });
    let isLate = false;
    const isDone = await run(async () => {
      const sent = await dispatch({ kind: "answer", taskId: task.id, body }, newKey());
      isLate = sent.kind === "late";
      // What was sent counts as on its way until the task has no such question any more.
      if (sent.kind !== "sent") setLast(isLate ? { questionId, text, isLate } : null);
      else if (sent.receipt.kind === "task") putTask(sent.receipt.task);
    });
    if (!isDone) setLast(null);
    return isDone && !isLate;
  };

  const waiting = item?.state === "waiting" && item.work.kind === "answer" ? item.work.body.text : null;
  if (given !== null) return { state: given.isLate ? "closed" : "sending", text: given.text, item, said, send };
  const state = item === null ? "open" : waiting === null ? "closed" : "waiting";
  return { state, text: waiting, item, said, send };
}
