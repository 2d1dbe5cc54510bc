/** The audit log for admins. */
import { z } from "zod";
import { AuditCheck } from "../../../core/lib/audit/chain.ts";
import type { AuditLog, AuditRow } from "../../../core/ports/records/audit.ts";
import { toIsoTime } from "../../../core/protocol/mapping.ts";
import { auditCheckSchema, auditRowSchema } from "../../../core/protocol/people.ts";
import { pageSchema } from "../../../core/protocol/rest.ts";
import { json, route } from "../../route.ts";

/** Rows that one read checks; other requests run in between. */
const AT_ONCE = 1_000;

const id = z.string().max(64);
const auditQuerySchema = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1_000).default(200).describe("Most items of the page."),
  cursor: z.coerce.number().int().min(1).optional().describe("`next` of the page before."),
  actor: id.optional().describe("The id of the person who did it."),
  action: id.optional().describe("The name of the call, for example `changeRole`."),
  target: id.optional().describe("The id of what it was done to."),
});

function wireRow({ at, detail, ...row }: AuditRow): z.infer<typeof auditRowSchema> {
  return { ...row, at: toIsoTime(at), detail: { ...detail } };
}

async function checkChain(audit: AuditLog): Promise<z.infer<typeof auditCheckSchema>> {
  const ends = await audit.ends();
  const check = new AuditCheck(ends);
  while (check.last < ends.end.n && check.fault === null) {
    const rows = await audit.rowsAfter(check.last, AT_ONCE);
    // Rows that were added meanwhile are after the end that is checked.
    for (const row of rows) if (row.n <= ends.end.n) check.add(row);
    if (rows.length === 0) break;
  }
  const fault = check.finish();
  return { ok: fault === null, fault, rows: check.rows, start: ends.start.n, end: ends.end.n, hash: ends.end.hash };
}

export const auditRoutes = [
  route({
    method: "get",
    path: "/v1/audit",
    access: "admin",
    operation: "listAudit",
    summary: "Who did what, from where, on what: the newest first",
    query: auditQuerySchema,
    answers: { 200: json(pageSchema(auditRowSchema)) },
    async handle({ deps, query }) {
      const { limit, cursor: before, ...filters } = query;
      const rows = await deps.audit.rows({ ...filters, before, limit: limit + 1 });
      const items = rows.slice(0, limit);
      const next = rows.length > limit ? String(items.at(-1)?.n) : null;
      return { status: 200, body: { items: items.map(wireRow), next } };
    },
  }),
  route({
    method: "get",
    path: "/v1/audit/check",
    access: "admin",
    operation: "checkAudit",
    summary: "Whether a row of the audit log was changed, removed or moved",
    answers: { 200: json(auditCheckSchema) },
    async handle({ deps }) {
      return { status: 200, body: await checkChain(deps.audit) };
    },
  }),
];
