/** Removes rows of the audit log that are older than the operator keeps them, once a day. */
import { errorMessage } from "../../core/error.ts";
import type { AuditLog } from "../../core/ports/records/audit.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";

const DAY_MS = 24 * 3_600_000;

export interface AuditRetention {
  readonly audit: AuditLog;
  readonly clock: Pick<Clock, "now">;
  readonly log: Pick<Log, "warn">;
  readonly days: number;
}

/** What the server itself does, as a row. */
export function serverEntry(at: number, action: string, detail: Record<string, string | number>) {
  return { at, actor: null, via: "server", address: "", action, target: null, outcome: "ok", detail } as const;
}

/** The removal is a row too. */
export async function pruneAudit({ audit, clock, days }: Omit<AuditRetention, "log">): Promise<number> {
  const removed = await audit.prune(clock.now() - days * DAY_MS);
  if (removed > 0) await audit.append(serverEntry(clock.now(), "pruneAudit", { rows: removed, days }));
  return removed;
}

/** @returns how to stop it. */
export function keepAuditShort(retention: AuditRetention): () => void {
  const run = (): void => {
    pruneAudit(retention).catch((error: unknown) =>
      retention.log.warn({ error: errorMessage(error) }, "old rows of the audit log were not removed"),
    );
  };
  run();
  const timer = setInterval(run, DAY_MS);
  timer.unref();
  return () => clearInterval(timer);
}
