/**
 * Which calls leave a row in the audit log, and what it says (rule H9).
 *
 * A1 An act is one row: in the transaction of its first write where the handler passes it on
 *    (`Accounts.with`), else right after; a refusal is a row with its code.
 * A2 A row holds ids and the fields that this table names, never the rest of a body.
 * A3 Refusals of people who are not logged in are bounded: what exceeds a minute's number is
 *    counted in the next row.
 */
import { z } from "zod";
import { coerceError } from "../../core/error.ts";
import { isBudgetQuestion } from "../../core/budget.ts";
import type { Act, AuditLog, AuditValue } from "../../core/ports/records/audit.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import type { Store } from "../../core/ports/store.ts";
import type { AuthenticatedCaller } from "../../auth/sessions.ts";
import type { Route, RouteReply } from "../route.ts";

interface Audited {
  /** `others`: only what is done to a task of somebody else. */
  readonly when: "always" | "others";
  /** Fields of the body, the query and the path that the row repeats; none is a secret. */
  readonly fields: readonly string[];
}

const always = (...fields: string[]): Audited => ({ when: "always", fields });
const others = (...fields: string[]): Audited => ({ when: "others", fields });

/** By the name of the call. */
export const AUDITED: Readonly<Record<string, Audited>> = {
  login: always(),
  logInBrowser: always(),
  setUp: always(),
  setUpInBrowser: always(),
  logout: always(),
  logOutBrowser: always(),
  finishProviderLogin: always("provider"),
  unlinkIdentity: always(),
  logInWithPasskey: always(),
  createPasskey: always(),
  changePasskey: always(),
  deletePasskey: always(),
  endSession: always(),
  endSessions: always("keep"),
  changePassword: always(),
  // Neither the name nor the e-mail: rows outlive the person.
  changeCommitIdentity: always("as"),
  deleteCommitIdentity: always(),
  createToken: always("scopes", "expiresInDays"),
  revokeToken: always(),
  putCredential: always("host"),
  deleteCredential: always(),
  putVariable: always("repo", "name", "secret", "phase"),
  deleteVariable: always("repo", "name"),
  // Not the address, which is a secret.
  addNtfy: always("kinds"),
  addWebhook: always("kinds"),
  pollDeviceLogin: always(),
  offerDeviceLogin: always(),
  withdrawDeviceOffer: always(),
  claimDeviceOffer: always(),
  pollDeviceLoginInBrowser: always(),
  exchangeToken: always(),
  decideDeviceLogin: always("allow"),
  createUser: always("role"),
  changeRole: always("role"),
  changeQuotas: always(
    "tasksPerMinute",
    "tasksPerDay",
    "openTasks",
    "searchesPerMinute",
    "dayUsd",
    "monthUsd",
    "reset",
  ),
  disableUser: always("tasks"),
  deleteUser: always("tasks"),
  deleteMe: always("tasks"),
  exportUser: always(),
  exportMe: always(),
  enableUser: always(),
  endUserSessions: always(),
  createPasswordLink: always(),
  createInvitation: always("role", "days"),
  withdrawLink: always(),
  acceptLink: always(),
  acceptLinkInBrowser: always(),
  rotateKeys: always(),
  pauseQueue: always(),
  drainQueue: always(),
  resumeQueue: always(),
  collectGarbage: always("dryRun"),
  changeEgressHosts: always("allow", "remove", "reset"),
  killTask: always(),
  getArtifact: always("name"),
  answerQuestion: others(),
  cancelTask: others(),
  deleteTask: others(),
  keepTask: others("keep"),
  retryTask: others(),
  sendMessage: others("mode"),
  withdrawMessage: others("mid"),
};

const MINUTE_MS = 60_000;
/** Rows of refused strangers in a minute. */
const REFUSALS = 60;
const LONGEST_VALUE = 500;

export interface AuditTrailDeps {
  readonly audit: AuditLog;
  readonly store: Pick<Store, "task">;
  readonly clock: Clock;
  readonly log: Log;
}

/** What is known of a call before its handler runs. */
export interface AuditedCall {
  readonly row: Pick<Route, "operation">;
  readonly caller: AuthenticatedCaller | null;
  readonly address: string;
  readonly params: Readonly<Record<string, string>>;
  readonly query: unknown;
  readonly body: unknown;
}

export class AuditTrail {
  readonly #deps: AuditTrailDeps;
  #refusals = { since: 0, count: 0 };

  constructor(deps: AuditTrailDeps) {
    this.#deps = deps;
  }

  /** The act of a call; undefined when it leaves no row. */
  begin(call: AuditedCall): Act | undefined {
    const { row, caller, address, params } = call;
    const audited = AUDITED[row.operation];
    if (audited === undefined) return undefined;
    const entry = {
      at: this.#deps.clock.now(),
      actor: caller?.userId ?? null,
      via: caller?.via ?? "none",
      address: address.replace(/^::ffff:(?=\d+\.)/, ""),
      action: row.operation,
      target: params["id"] ?? null,
      outcome: "ok",
      detail: pick(audited.fields, call),
    } as const;
    return { entry, isWritten: false };
  }

  /** Runs the handler of a call that has an act, and appends the row unless the handler did. */
  async run(call: AuditedCall, act: Act, handle: () => Promise<RouteReply>): Promise<RouteReply> {
    if (!(await this.#isOfInterest(call))) return await handle();
    let reply: RouteReply;
    try {
      reply = await handle();
    } catch (error) {
      await this.#refuse(act, coerceError(error).code);
      throw error;
    }
    if (act.isWritten) return reply;
    if (act.entry.outcome !== "ok") await this.#refuse(act, act.entry.outcome);
    else await this.#append(act, readMade(reply));
    return reply;
  }

  async #isOfInterest({ row, caller, params, body }: AuditedCall): Promise<boolean> {
    if (AUDITED[row.operation]?.when !== "others") return true;
    // A raised budget spends money, so it leaves a row for the caller's own task too.
    const { questionId } = z.object({ questionId: z.string() }).safeParse(body).data ?? {};
    if (questionId !== undefined && isBudgetQuestion(questionId)) return true;
    const task = await this.#deps.store.task(params["id"] ?? "");
    return task !== null && task.userId !== caller?.userId;
  }

  async #append(act: Act, made: string | null): Promise<void> {
    act.isWritten = true;
    await this.#deps.audit.append({ ...act.entry, target: act.entry.target ?? made });
  }

  /** A full disk must not turn a refusal into another one. */
  async #refuse({ entry }: Act, outcome: string): Promise<void> {
    // A rate-limited call had no effect, and a flood of such rows would push out the others.
    if (outcome === "rate_limited") return;
    const uncounted = entry.actor === null ? this.#count(entry.at) : 0;
    if (uncounted === null) return;
    // An invalid body may hold anything, even a password in the wrong field.
    const said = outcome.startsWith("invalid_") ? {} : entry.detail;
    const detail = uncounted === 0 ? said : { ...said, uncounted };
    await this.#deps.audit
      .append({ ...entry, detail, outcome })
      .catch((error: unknown) => this.#deps.log.warn({ err: error }, "a refusal is not in the audit log"));
  }

  /** The number of refusals without a row before this one; null = this one gets no row either. */
  #count(at: number): number | null {
    const { since, count } = this.#refusals;
    if (at - since >= MINUTE_MS || at < since) {
      this.#refusals = { since: at, count: 1 };
      return Math.max(0, count - REFUSALS);
    }
    this.#refusals.count += 1;
    return count < REFUSALS ? 0 : null;
  }
}

function pick(fields: readonly string[], { params, query, body }: AuditedCall): Record<string, AuditValue> {
  const given = { ...asObject(query), ...asObject(body), ...params };
  return Object.fromEntries(
    fields.filter((name) => given[name] !== undefined).map((name) => [name, short(given[name])]),
  );
}

const asObject = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};

function short(value: unknown): AuditValue {
  if (typeof value === "number" || typeof value === "boolean" || value === null) return value;
  return (Array.isArray(value) ? value.join(", ") : String(value)).slice(0, LONGEST_VALUE);
}

/** The id of what the call made. */
function readMade({ body }: RouteReply): string | null {
  return z.object({ id: z.string() }).safeParse(body).data?.id ?? null;
}
