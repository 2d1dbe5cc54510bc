/**
 * When the conversation can be shown: with the reader of its texts, where it has any, and, of a
 * task that had ended when it was opened, with its result and what this needs. They come together
 * and are drawn once, so that nothing is pushed down by what comes later.
 */
import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { useEffect, useState, type ComponentType } from "react";
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";
import { importWithRetry } from "../../../lazy-component.tsx";
import { isMarkdownLoaded, loadMarkdown } from "../../../components/text/markdown.tsx";
import { useTaskList } from "../../../lib/tasks/task-list.ts";
import { useTaskView } from "../task-screen.tsx";

/** A bound for a network that does not answer: then what is there is shown. */
const WAIT_MS = 2_500;

/** Drawn at once where it is here, without a frame in between. */
let result: ComponentType | null = null;

async function loadResult(): Promise<(queries: QueryClient, task: WireTask) => Promise<void>> {
  const part = await importWithRetry(() => import("./result-cards.tsx"));
  result = part.ResultCards;
  return part.prepareResult;
}

/** What may be needed later is loaded when the screen has been usable for a while. */
const LATER_MS = 1_500;

function lazyComponent(work: () => void): () => void {
  const timer = setTimeout(work, LATER_MS);
  return () => clearTimeout(timer);
}

/** The result of a task that ends while it is watched: loaded before, when there is time for it. */
export function useResult(isOver: boolean): ComponentType | null {
  const [isLoaded, setLoaded] = useState(result !== null);
  useEffect(() => {
    if (isLoaded) return undefined;
    const begin = (): void => {
      loadResult()
        .then(() => setLoaded(true))
        // Without a network; the end of the task is in the log too.
        .catch(() => undefined);
    };
    if (!isOver) return lazyComponent(begin);
    begin();
    return undefined;
  }, [isLoaded, isOver]);
  return result;
}

/** False until the texts of the task can be read. */
function useReader(isNeeded: boolean): boolean {
  const [isLoaded, setLoaded] = useState(isMarkdownLoaded);
  useEffect(() => {
    if (isLoaded) return undefined;
    // Without a network a text is shown as it is.
    const begin = (): void => void Promise.allSettled([loadMarkdown()]).then(() => setLoaded(true));
    if (!isNeeded) return lazyComponent(begin);
    begin();
    return undefined;
  }, [isLoaded, isNeeded]);
  return isLoaded;
}

/** @param isOver the task had ended when it was opened. */
export function useFirstView(isOver: boolean): boolean {
  const { task, log } = useTaskView();
  const { isLoaded, connection } = useTaskList();
  const [opened] = useState(task);
  const queries = useQueryClient();
  const [hasResult, setHasResult] = useState(!isOver);
  const [isShown, setShown] = useState(false);
  const hasTexts = isOver || log.streaming !== null || log.conversation.blocks.some(({ kind }) => kind === "text");
  const isReadable = useReader(hasTexts);
  useEffect(() => {
    if (isShown) return undefined;
    const timer = setTimeout(() => setShown(true), WAIT_MS);
    return () => clearTimeout(timer);
  }, [isShown]);
  useEffect(() => {
    if (!isOver) return;
    const prepared = loadResult().then((prepare) => prepare(queries, opened));
    void Promise.allSettled([prepared]).then(() => setHasResult(true));
  }, [isOver, queries, opened]);
  // The log says how a task failed or was stopped and whether it has texts, the list which tasks
  // are of its thread.
  const comesIn = task.state !== "done" && log.seq < task.seq && log.connection !== "lost" && log.problem === null;
  const isThere = !comesIn && (!isOver || isLoaded || connection === "lost");
  if (hasResult && isThere && (isReadable || !hasTexts) && !isShown) setShown(true);
  return isShown;
}
