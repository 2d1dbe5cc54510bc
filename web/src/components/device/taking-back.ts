/**
 * What was not sent returns to its draft, with its options and files, to be changed and sent again.
 *
 * T1 Nothing that was begun in the field meanwhile is replaced: texts and files are joined.
 * T2 What has no room in its draft stays in the outbox.
 */
import type { Attachment } from "../../../../src/core/values/attachment.ts";
import { MAX_ATTACHMENTS } from "../../lib/attachments/attaching.ts";
import { readFiles, restoreFiles } from "../../lib/attachments/kept-files.ts";
import { draftsOf, type OutboxItem } from "../../lib/device/outbox-item.ts";
import { dropItem } from "../../lib/device/outbox.ts";
import { readDraft, restoreDraft } from "../../lib/drafts.ts";
import { formatRepo } from "../../lib/format.ts";
import { parseOptions, toOptions } from "../../lib/tasks/task-options.ts";

const NAMELESS = { name: "A file, of which only the id is known", mediaType: "application/octet-stream" };

const join = (...texts: readonly string[]): string => [...new Set(texts)].filter((text) => text !== "").join("\n\n");

/** @returns in words where it is now, or why it stays in the outbox (T2). */
export function takeBack(item: OutboxItem): string {
  const { work, id } = item;
  const drafts = draftsOf(work);
  const begun = drafts.files === "" ? [] : readFiles(drafts.files);
  const added = listFiles(item).filter((file) => !begun.some((known) => known.id === file.id));
  if (begun.length + added.length > MAX_ATTACHMENTS)
    return `Not taken back: with the files of its draft there would be more than ${MAX_ATTACHMENTS}.`;
  if (work.kind === "submit") {
    const repo = readDraft("new.repo").trim();
    if (repo !== "" && repo !== work.body.repo)
      return `Not taken back: the draft of a new task is for ${formatRepo(repo)}. Start that first, or empty its repository.`;
    restoreDraft("new.repo", work.body.repo);
    const options = { ...parseOptions(readDraft("new.options")), ...toOptions(work.body) };
    restoreDraft("new.options", JSON.stringify(options));
  }
  const text = work.kind === "submit" ? work.body.prompt : work.body.text;
  restoreDraft(drafts.text, join(text, readDraft(drafts.text)));
  if (added.length > 0) restoreFiles(drafts.files, [...begun, ...added]);
  void dropItem(id);
  if (work.kind === "submit") return "It is the draft of a new task again.";
  // The question of an answer that failed is closed, as a rule.
  return item.state === "failed" && work.kind === "answer" ? "" : "Its text is back in its field.";
}

/** A version before kept the ids alone: they are sent again, and the server knows the rest. */
function listFiles({ work, files = [] }: OutboxItem): readonly Attachment[] {
  const ids = work.kind === "answer" ? [] : (work.body.attachments ?? []);
  return ids.map(
    (id) => files.find((file) => file.id === id) ?? { id, ...NAMELESS, bytes: 0, width: null, height: null },
  );
}
