/** The contract suite of the deletion of people (rules M1, R9). */
import { expect, it } from "vitest";
import type { Accounts } from "../../../src/core/ports/accounts.ts";
import type { AuditLog } from "../../../src/core/ports/records/audit.ts";
import type { Notifications } from "../../../src/core/ports/notifications.ts";
import type { Store } from "../../../src/core/ports/store.ts";
import type { UsageLedger } from "../../../src/core/ports/records/usage-ledger.ts";
import { claim, create, fail, move, ready, T0 } from "../tasks.ts";

export interface PersonParts {
  readonly store: Store;
  readonly accounts: Accounts;
  readonly audit: AuditLog;
  readonly ledger: UsageLedger;
  readonly notifications: Notifications;
}

const [ANN, BEN] = ["user_ann", "user_ben"] as const;
const deletion = { userId: ANN, alias: "gone_1", at: T0 + 5, by: BEN };

export function personDeletionsContract(get: () => PersonParts): void {
  async function fill(userId: string): Promise<void> {
    const { accounts, store, ledger, notifications } = get();
    const email = `${userId}@example.org`;
    const times = { createdAt: T0, expiresAt: T0 + 9 };
    await accounts.createUser({ id: userId, email, role: "admin", createdAt: T0, disabledAt: null, passwordHash: "h" });
    const session = {
      id: `s ${userId}`,
      userId,
      tokenHash: `h ${userId}`,
      previousHash: null,
      rotatedAt: T0,
      confirmedAt: null,
    };
    await accounts.createSession({ ...session, ...times, revokedAt: null, device: "", address: "" });
    const token = { id: `t ${userId}`, userId, name: "ci", hash: `t ${userId}`, ...times, lastUsedAt: null };
    await accounts.createToken({ ...token, scopes: null });
    const secret = { id: `c ${userId}`, userId, host: "h", username: null, sealed: "s", createdAt: T0 };
    await accounts.putCredential({ ...secret, check: null, lastUsedAt: null, lastUse: null });
    const variable = {
      userId,
      repo: "r",
      name: "N",
      sealed: "s",
      secret: true,
      phase: "setup",
      updatedAt: T0,
    } as const;
    await accounts.putVariable(variable);
    const identity = { id: `i ${userId}`, userId, issuer: "i", subject: userId, name: "n", createdAt: T0 };
    await accounts.createIdentity({ ...identity, lastUsedAt: null });
    const link = { kind: "invitation", role: "user", ...times, usedAt: null } as const;
    await accounts.createLink({ id: `l ${userId}`, hash: `l ${userId}`, userId: null, email, madeBy: "root", ...link });
    await accounts.createLink({
      id: `m ${userId}`,
      hash: `m ${userId}`,
      userId: null,
      email: null,
      madeBy: userId,
      ...link,
    });
    const reply = { userId, endpoint: "POST /", key: "k", at: T0, sealed: "s" };
    await accounts.putReply(reply, { after: 0, perUser: 9 });
    const device = { id: `d ${userId}`, userId, sessionId: null, endpoint: `https://p/${userId}`, p256dh: "k" };
    const more = { via: "web_push", sealed: null, auth: "a", label: "", createdAt: T0, seenAt: T0 } as const;
    await notifications.putDevice({ ...device, ...more, kinds: [] });
    await store.setSetting(`git_identity.${userId}`, "x");
    const usage = { id: `r ${userId}`, taskId: "task_old", userId, attempt: 1, at: T0, model: "m", usd: 2 };
    const tokens = { inputTokens: 1, outputTokens: 1, cacheReadTokens: 0, cacheWriteTokens: 0 };
    await ledger.record({ ...usage, ...tokens, estimated: false });
  }

  it("[M1] [R9] an account goes with all that authenticates as it and that it kept; others keep theirs", async () => {
    await fill(ANN);
    await fill(BEN);
    const { accounts, notifications, store } = get();
    expect(await accounts.deletePerson({ ...deletion, userId: "user_none" })).toBe(false);
    expect(await accounts.deletePerson(deletion)).toBe(true);
    expect(await accounts.deletePerson(deletion)).toBe(false);
    const read = async (userId: string): Promise<unknown[]> => [
      await accounts.user(userId),
      await accounts.login(`${userId}@example.org`),
      ...(await accounts.openSessions(userId)),
      await accounts.session(`s ${userId}`),
      await accounts.tokenByHash(`t ${userId}`),
      ...(await accounts.credentials(userId)),
      ...(await accounts.variables(userId, null)),
      await accounts.identity("i", userId),
      await accounts.linkByHash(`l ${userId}`),
      await accounts.linkByHash(`m ${userId}`),
    ];
    expect((await read(ANN)).filter((one) => one !== null)).toEqual([]);
    expect((await read(BEN)).filter((one) => one === null)).toEqual([]);
    expect(await store.personDeletions()).toEqual([deletion]);
    while ((await store.purgePerson(deletion)) !== "done");
    const others = async (userId: string) => [
      await accounts.reply({ userId, endpoint: "POST /", key: "k" }),
      (await notifications.devices(userId))[0] ?? null,
      await store.setting(`git_identity.${userId}`),
    ];
    expect((await others(ANN)).filter((one) => one !== null)).toEqual([]);
    expect((await others(BEN)).filter((one) => one === null)).toEqual([]);
    expect(await store.personDeletions()).toEqual([]);
    // The address is free.
    await fill(ANN);
  });

  it("[M1] [R9] [G3] it waits for the person's tasks; costs and rows of deleted tasks stay under the alias", async () => {
    await fill(ANN);
    const { accounts, store, ledger } = get();
    const task = await create(store, { userId: ANN, key: "k1" });
    const theirs = await move(store, await create(store, { userId: BEN }), claim, ready, fail("refused"));
    await accounts.deletePerson(deletion);
    expect(await store.personTasks(ANN, 9)).toMatchObject([{ id: task.id, threadId: task.threadId, state: "queued" }]);
    const purge = async () => {
      for (;;) {
        const left = await store.purgePerson(deletion);
        if (left !== "more") return left;
      }
    };
    expect(await purge()).toBe("tasks");
    expect(await store.personDeletions()).toEqual([deletion]);
    await move(store, task, claim, ready, fail("refused"));
    await store.beginDeletion({ taskId: task.id, at: T0 + 6, by: ANN });
    await store.beginDeletion({ taskId: theirs.id, at: T0 + 6, by: ANN });
    expect(await store.personTasks(ANN, 9)).toEqual([]);
    while (!(await store.purgeDeletion(task.id, T0 + 7)));
    expect(await purge()).toBe("done");
    expect(await store.deletedTask(task.id)).toMatchObject({ userId: "gone_1", deletedBy: "gone_1" });
    expect(await store.deletedTask(theirs.id)).toMatchObject({ userId: BEN, deletedBy: "gone_1" });
    expect(await ledger.spentSince(0, null)).toEqual({ usd: 2, requests: 1 });
    expect(await ledger.spentSince(0, ANN)).toEqual({ usd: 0, requests: 0 });
    expect(await ledger.spentSince(0, "gone_1")).toEqual({ usd: 2, requests: 1 });
    // What came late goes in the same way.
    await store.setSetting(`git_identity.${ANN}`, "x");
    expect(await purge()).toBe("done");
    expect(await store.setting(`git_identity.${ANN}`)).toBeNull();
  });
}
