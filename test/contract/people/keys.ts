/** The contract of the key store (rule M1). */
import { expect, it } from "vitest";
import type { Act, AuditLog } from "../../../src/core/ports/records/audit.ts";
import { KEY_USES, type Accounts, type KeyStore, type StoredKey } from "../../../src/core/ports/accounts.ts";
import type { Notifications } from "../../../src/core/ports/notifications.ts";

const keysOf = (rotation: string, createdAt: number): StoredKey[] =>
  KEY_USES.map((use) => {
    return { id: `${use}-${rotation}`, use, rotation, createdAt, retiredAt: null, wrapped: `v1.00000000.${rotation}` };
  });

const act = (): Act => ({
  entry: {
    at: 1,
    actor: "u1",
    via: "session",
    address: "",
    action: "rotateKeys",
    target: null,
    outcome: "ok",
    detail: {},
  },
  isWritten: false,
});

export function keysContract(
  get: () => {
    readonly keys: KeyStore;
    readonly accounts: Accounts;
    readonly audit: AuditLog;
    readonly notifications: Notifications;
  },
): void {
  const addPeople = async (): Promise<void> => {
    const { accounts, notifications } = get();
    for (const id of ["u1", "u2"])
      await accounts.createUser({
        id,
        email: `${id}@example.org`,
        role: "user",
        createdAt: 1,
        disabledAt: null,
        passwordHash: "hash",
      });
    for (const [i, userId] of ["u1", "u1", "u2"].entries())
      await accounts.putCredential({
        id: `c${i}`,
        userId,
        host: `host${i}`,
        username: null,
        sealed: `v1.aaaaaaaa.c${i}`,
        createdAt: 1,
        check: null,
        lastUsedAt: null,
        lastUse: null,
      });
    await accounts.putVariable({
      userId: "u2",
      repo: "https://host/o/r",
      name: "TOKEN",
      sealed: "v1.aaaaaaaa.v",
      secret: true,
      phase: "setup",
      updatedAt: 1,
    });
    const device = {
      userId: "u2",
      sessionId: null,
      p256dh: "",
      auth: "",
      label: "",
      kinds: [],
      createdAt: 1,
      seenAt: 1,
    };
    for (const [id, sealed] of [
      ["browser", null],
      ["hook", "v1.aaaaaaaa.d"],
    ] as const)
      await notifications.putDevice({
        ...device,
        id,
        via: sealed === null ? "web_push" : "webhook",
        endpoint: `https://host/${id}`,
        sealed,
      });
  };

  it("[H16] new keys retire those of their uses, once per rotation, with the row of the act", async () => {
    const { keys, audit } = get();
    expect(await keys.keys()).toEqual([]);
    expect(await keys.addKeys(keysOf("r1", 10))).toBe(true);
    const made = act();
    expect(await keys.addKeys(keysOf("r2", 20), made)).toBe(true);
    const repeated = act();
    expect(await keys.addKeys(keysOf("r2", 30), repeated)).toBe(false);
    expect([made.isWritten, repeated.isWritten]).toEqual([true, false]);
    expect(await audit.rows({ limit: 10 })).toMatchObject([{ action: "rotateKeys", actor: "u1" }]);
    const old = keysOf("r1", 10).map((key) => ({ ...key, retiredAt: 20 }));
    expect(await keys.keys()).toEqual([...keysOf("r2", 20), ...old]);
  });

  it("[H16] all keys are wrapped again, or none", async () => {
    const { keys } = get();
    await keys.addKeys(keysOf("r1", 10));
    const changed = KEY_USES.map((use) => ({ id: `${use}-r1`, wrapped: "v1.11111111.x" }));
    expect(await keys.rewrapKeys([...changed, { id: "nobody", wrapped: "v1.11111111.x" }])).toBe(false);
    expect(await keys.keys()).toEqual(keysOf("r1", 10));
    expect(await keys.rewrapKeys(changed)).toBe(true);
    expect((await keys.keys()).map(({ wrapped }) => wrapped)).toEqual(KEY_USES.map(() => "v1.11111111.x"));
  });

  it("[H16] sealed rows are read in pages and replaced only while they are as they were read", async () => {
    const { keys, accounts, notifications } = get();
    await addPeople();
    expect(await keys.sealedCounts()).toEqual({ aaaaaaaa: 5 });
    const first = await keys.sealedRows("credential", "bbbbbbbb", 0, 2);
    expect(first.rows).toHaveLength(2);
    const second = await keys.sealedRows("credential", "bbbbbbbb", first.next ?? -1, 2);
    expect([...first.rows, ...second.rows].map(({ sealed }) => sealed).sort()).toEqual(
      [0, 1, 2].map((i) => `v1.aaaaaaaa.c${i}`),
    );
    expect(second.next).toBeNull();
    expect((await keys.sealedRows("credential", "aaaaaaaa", 0, 10)).rows).toEqual([]);
    const [variable] = (await keys.sealedRows("variable", "bbbbbbbb", 0, 10)).rows;
    expect(variable).toMatchObject({ kind: "variable", userId: "u2", repo: "https://host/o/r", name: "TOKEN" });
    const [hook, ...none] = (await keys.sealedRows("device", "bbbbbbbb", 0, 10)).rows;
    expect([hook, none]).toEqual([{ kind: "device", userId: "u2", id: "hook", sealed: "v1.aaaaaaaa.d" }, []]);
    const [changed] = first.rows;
    const moved = { ...changed!, sealed: "v1.aaaaaaaa.other" };
    expect(await keys.reseal([{ row: moved, sealed: "v1.bbbbbbbb.lost" }])).toBe(0);
    const changes = [changed!, variable!, hook!].map((row) => ({ row, sealed: "v1.bbbbbbbb.new" }));
    expect(await keys.reseal(changes)).toBe(3);
    expect(await keys.sealedCounts()).toEqual({ aaaaaaaa: 2, bbbbbbbb: 3 });
    expect(await notifications.device("hook")).toMatchObject({ sealed: "v1.bbbbbbbb.new", via: "webhook" });
    expect((await accounts.variables("u2", null))[0]).toMatchObject({ sealed: "v1.bbbbbbbb.new", name: "TOKEN" });
  });

  it("[H16] a lost secret key takes the keys and all that is sealed with it, and nothing else", async () => {
    const { keys, accounts, notifications } = get();
    await addPeople();
    await keys.addKeys(keysOf("r1", 10));
    await keys.forgetKeys();
    expect([await keys.keys(), await keys.sealedCounts()]).toEqual([[], {}]);
    expect(await accounts.users()).toHaveLength(2);
    expect((await notifications.devices("u2")).map(({ id }) => id)).toEqual(["browser"]);
  });
}
