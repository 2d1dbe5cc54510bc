/** Checks that the attachments that tasks were given are there, whole (rule U4). */
import { statSync } from "node:fs";
import { join } from "node:path";
import { isSettledState, type TaskSpec, type TaskState } from "../../../core/task.ts";
import { attachmentBlockSchema, attachmentSchema, type Attachment } from "../../../core/values/attachment.ts";
import type { Inspection, RawTask } from "../../../store/sqlite/inspection/inspection.ts";
import type { Finding } from "../finding.ts";

export interface AttachmentCheckDeps {
  readonly inspection: Inspection;
  /** The folder of the attachments. */
  readonly dir: string;
  /** Those of tasks that settled before are removed, epoch ms. */
  readonly keptSince: number;
}

export function checkAttachments({ inspection, dir, keptSince }: AttachmentCheckDeps): Finding[] {
  const found: Finding[] = [];
  for (const taskId of inspection.taskIds()) {
    const given = inspection.within(() => readGiven(inspection, taskId, keptSince));
    for (const attachment of given) {
      const detail = describeFault(dir, attachment);
      if (detail !== null) found.push({ rule: "U4", taskId, detail, repair: null });
    }
  }
  return found;
}

function readGiven(inspection: Inspection, taskId: string, keptSince: number): Attachment[] {
  const task = inspection.task(taskId);
  if (task === null || (isSettledState(task.state as TaskState) && task.updated_at <= keptSince)) return [];
  const found = readSpecified(task);
  for (const { content } of inspection.messages(taskId))
    if (content.includes('"attachment"')) found.push(...parseList(readJson(content), attachmentBlockSchema));
  return found;
}

function readSpecified({ spec }: RawTask): Attachment[] {
  const { attachments = [] } = (readJson(spec ?? "{}") ?? {}) as Partial<TaskSpec>;
  return parseList(attachments, attachmentSchema);
}

function parseList(value: unknown, schema: typeof attachmentSchema | typeof attachmentBlockSchema): Attachment[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((item: unknown) => {
    const parsed = schema.safeParse(item);
    return parsed.success ? [parsed.data] : [];
  });
}

/** Null for text that is no JSON: another check reports it. */
function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function describeFault(dir: string, { id, name, bytes }: Attachment): string | null {
  const content = statSync(join(dir, id, "content"), { throwIfNoEntry: false });
  if (content === undefined) return `its attachment ${id} (${name}) is gone`;
  return content.size === bytes ? null : `its attachment ${id} (${name}) has ${content.size} bytes, not ${bytes}`;
}
