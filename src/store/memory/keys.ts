/** Data keys, and the rows of the accounts that they seal, in memory. */
import type { Act, AuditLog } from "../../core/ports/records/audit.ts";
import type { Notifications } from "../../core/ports/notifications.ts";
import {
  KEY_USES,
  SEALED_KINDS,
  type Accounts,
  type KeyStore,
  type SealedRow,
  type StoredKey,
} from "../../core/ports/accounts.ts";

const idOf = (sealed: string): string => sealed.split(".")[1] ?? "";

export function memoryKeys(accounts: Accounts, audit: AuditLog, notifications: Notifications): KeyStore {
  const keys = new Map<string, StoredKey>();
  const record = async (act: Act | undefined): Promise<void> => {
    if (act === undefined || act.isWritten) return;
    act.isWritten = true;
    await audit.append(act.entry);
  };
  const variables = async (userId: string): Promise<SealedRow[]> =>
    (await accounts.variables(userId, null)).map(({ repo, name, sealed }) => {
      return { kind: "variable", userId, repo, name, sealed };
    });
  const credentials = async (userId: string): Promise<SealedRow[]> =>
    (await accounts.credentials(userId)).map(({ host, sealed }) => ({ kind: "credential", userId, host, sealed }));
  const devices = async (userId: string): Promise<SealedRow[]> =>
    (await notifications.devices(userId)).flatMap(({ id, sealed }) =>
      sealed === null ? [] : [{ kind: "device", userId, id, sealed }],
    );
  const reads = { credential: credentials, variable: variables, device: devices };
  const rowsOf = async (kind: SealedRow["kind"]): Promise<SealedRow[]> => {
    return (await Promise.all((await accounts.users()).map(({ id }) => reads[kind](id)))).flat();
  };
  return {
    keys: async () =>
      [...keys.values()].toSorted(
        (a, b) => b.createdAt - a.createdAt || KEY_USES.indexOf(a.use) - KEY_USES.indexOf(b.use),
      ),
    async addKeys(added, act) {
      const made = [...keys.values()];
      if (added.some((key) => made.some(({ rotation, use }) => rotation === key.rotation && use === key.use)))
        return false;
      for (const key of added) {
        for (const old of made)
          if (old.use === key.use && old.retiredAt === null) keys.set(old.id, { ...old, retiredAt: key.createdAt });
        keys.set(key.id, key);
      }
      await record(act);
      return true;
    },
    async rewrapKeys(changes, act) {
      if (changes.some(({ id }) => !keys.has(id))) return false;
      for (const { id, wrapped } of changes) {
        const key = keys.get(id);
        if (key !== undefined) keys.set(id, { ...key, wrapped });
      }
      await record(act);
      return true;
    },
    async sealedCounts() {
      const ids = (await Promise.all(SEALED_KINDS.map(rowsOf))).flat().map(({ sealed }) => idOf(sealed));
      return Object.fromEntries([...new Set(ids)].map((id) => [id, ids.filter((one) => one === id).length]));
    },
    async sealedRows(kind, keyId, after, limit) {
      const found = (await rowsOf(kind))
        .map((row, i) => ({ row, place: i + 1 }))
        .filter(({ row, place }) => place > after && idOf(row.sealed) !== keyId)
        .slice(0, limit);
      const last = found.at(-1);
      return {
        rows: found.map(({ row }) => row),
        next: found.length < limit || last === undefined ? null : last.place,
      };
    },
    async reseal(changes) {
      let count = 0;
      for (const { row, sealed } of changes) if (await replace(accounts, notifications, row, sealed)) count += 1;
      return count;
    },
    async forgetKeys(act) {
      keys.clear();
      for (const { id: userId } of await accounts.users()) {
        for (const { id } of await accounts.credentials(userId)) await accounts.deleteCredential(userId, id);
        for (const { repo, name } of await accounts.variables(userId, null))
          await accounts.deleteVariable(userId, repo, name);
        for (const { id, sealed } of await notifications.devices(userId))
          if (sealed !== null) await notifications.deleteDevice(userId, id);
      }
      await record(act);
    },
  };
}

async function replace(
  accounts: Accounts,
  notifications: Notifications,
  row: SealedRow,
  sealed: string,
): Promise<boolean> {
  if (row.kind === "device") {
    const device = await notifications.device(row.id);
    if (device?.sealed !== row.sealed) return false;
    await notifications.putDevice({ ...device, sealed });
    return true;
  }
  if (row.kind === "credential") {
    const found = await accounts.credentialFor(row.userId, row.host);
    if (found?.sealed !== row.sealed) return false;
    await accounts.putCredential({ ...found, sealed });
    return true;
  }
  const found = (await accounts.variables(row.userId, row.repo)).find(({ name }) => name === row.name);
  if (found?.sealed !== row.sealed) return false;
  await accounts.putVariable({ ...found, sealed });
  return true;
}
