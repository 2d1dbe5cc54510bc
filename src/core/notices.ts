/**
 * Notices of the coordinator. Their codes are reserved: people and programs act on them, so no
 * worker may use one (rule S15).
 */
import type { Proposal } from "./event.ts";

export const SERVER_NOTICES = [
  "adopted",
  "branch_gone",
  "work_gone",
  "branch_merged",
  "branch_rewritten",
  "branch_updated",
  "checkpoint_missing",
  "commands_withheld",
  "config_invalid",
  "config_unknown_key",
  "egress_phase",
  "egress_refused",
  "egress_used_up",
  "egress_wish",
  "event_ignored",
  "guard_told",
  "image_unused",
  "message_withdrawn",
  "messages_undelivered",
  "push_unfinished",
  "resumed",
  "salvage_failed",
  "salvaged",
  "step.container",
  "step.image",
  "step.mirror",
  "usage_ignored",
] as const;
/** `budget_near` is the only code that workers use too: they know their minutes and turns. */
export type ServerNoticeCode = (typeof SERVER_NOTICES)[number] | "budget_near";

/** The code of a worker's notice that came with a reserved one. */
export const FOREIGN_NOTICE = "worker_notice";

const RESERVED: ReadonlySet<string> = new Set(SERVER_NOTICES);

export function isReservedNotice(code: string): boolean {
  return RESERVED.has(code);
}

/** A notice in place of a worker's event, whose number it keeps (decision 006). */
export function insteadNotice(level: "info" | "warning", code: ServerNoticeCode, text: string): Proposal {
  return serverNotice(level, code, text, { by: "server" });
}

export function serverNotice(
  level: "info" | "warning",
  code: ServerNoticeCode,
  text: string,
  more: object = {},
): Proposal {
  return { type: "notice", data: { level, code, text, ...more } };
}
