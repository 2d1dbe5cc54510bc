/** Users, sessions, tokens and credentials in memory. */
import type {
  AccessToken,
  Accounts,
  Credential,
  Link,
  Passkey,
  PasswordHash,
  PersonDeletion,
  ProviderIdentity,
  Reply,
  ReplyAddress,
  Session,
  StoredVariable,
  User,
} from "../../core/ports/accounts.ts";
import type { AuditLog } from "../../core/ports/records/audit.ts";
import { auditedAccounts } from "./audit.ts";
import { SlipwayError } from "../../core/error.ts";

const taken = (what: string): SlipwayError => new SlipwayError("conflict", `${what} already exists.`);

/** @param begin returns false when the person's deletion has begun before. */
export function memoryAccounts(audit: AuditLog, begin: (deletion: PersonDeletion) => boolean): Accounts {
  const drops: Drops = [];
  const own = { ...sessions(drops), ...identities(drops), ...passkeys(drops) };
  const accounts: Accounts = {
    ...own,
    ...users(own, drops),
    ...tokens(drops),
    ...credentials(drops),
    ...variables(drops),
    ...replies(drops),
    async deletePerson(deletion) {
      if ((await accounts.user(deletion.userId)) === null || !begin(deletion)) return false;
      for (const drop of drops) drop(deletion.userId);
      return true;
    },
    with: (act) => auditedAccounts(accounts, audit, act),
  };
  return accounts;
}

/** What removes the rows of a person from each table. */
type Drops = ((userId: string) => void)[];

const dropOwn = (drops: Drops, rows: Map<string, { readonly userId: string }>): void => {
  drops.push((userId) => {
    for (const [key, row] of rows) if (row.userId === userId) rows.delete(key);
  });
};

const byAge = (a: { createdAt: number; id: string }, b: { createdAt: number; id: string }): number =>
  a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1);

type Users = Pick<Accounts, "createUser" | "user" | "login" | "users" | "changeUser"> &
  Pick<Accounts, "createLink" | "linkByHash" | "openLinks" | "deleteLink" | "acceptInvitation" | "acceptPassword">;

type Others = Pick<Accounts, "createIdentity" | "identity" | "revokeSessions" | "passkeys" | "deletePasskey">;

function users(others: Others, drops: Drops): Users {
  const rows = new Map<string, User & PasswordHash>();
  const links = new Map<string, Link>();
  drops.push((userId) => {
    const email = rows.get(userId)?.email;
    for (const { id, ...link } of links.values())
      if (link.userId === userId || link.madeBy === userId || link.email?.toLowerCase() === email) links.delete(id);
    rows.delete(userId);
  });
  const withEmail = (email: string) => [...rows.values()].find((row) => row.email === email.toLowerCase());
  const withoutHash = ({ passwordHash: _, ...user }: User & PasswordHash): User => user;
  const create = (user: User & PasswordHash): void => {
    if (rows.has(user.id) || withEmail(user.email) !== undefined) throw taken("A user with this e-mail");
    rows.set(user.id, { ...user, email: user.email.toLowerCase() });
  };
  const openLink = (id: string, kind: Link["kind"]): Link | null => {
    const link = links.get(id);
    return link?.kind === kind && link.usedAt === null ? link : null;
  };
  return {
    async createUser(user, identity) {
      if (identity !== undefined && (await others.identity(identity.issuer, identity.subject)) !== null)
        throw taken("This identity");
      create(user);
      if (identity !== undefined) await others.createIdentity(identity);
    },
    async user(id) {
      const row = rows.get(id);
      return row === undefined ? null : withoutHash(row);
    },
    login: async (email) => withEmail(email) ?? null,
    users: async () => [...rows.values()].map(withoutHash).toSorted(byAge),
    async changeUser(id, change) {
      const row = rows.get(id);
      if (row !== undefined) rows.set(id, { ...row, ...change });
      if (typeof change.disabledAt === "number")
        for (const passkey of await others.passkeys(id)) await others.deletePasskey(id, passkey.id);
      return row !== undefined;
    },
    async createLink(link) {
      if (links.has(link.id) || [...links.values()].some(({ hash }) => hash === link.hash)) throw taken("The link");
      links.set(link.id, link);
    },
    linkByHash: async (hash) => [...links.values()].find((link) => link.hash === hash) ?? null,
    openLinks: async () =>
      [...links.values()]
        .filter(({ usedAt }) => usedAt === null)
        .toSorted((a, b) => b.createdAt - a.createdAt || (a.id < b.id ? -1 : 1)),
    deleteLink: async (id) => links.get(id)?.usedAt === null && links.delete(id),
    async acceptInvitation(id, at, user) {
      const link = openLink(id, "invitation");
      if (link === null) return false;
      create(user);
      links.set(id, { ...link, usedAt: at });
      return true;
    },
    async acceptPassword(id, at, passwordHash) {
      const link = openLink(id, "password");
      const row = link === null ? undefined : rows.get(link.userId ?? "");
      if (link === null || row === undefined) return false;
      rows.set(row.id, { ...row, passwordHash });
      links.set(id, { ...link, usedAt: at });
      await others.revokeSessions(row.id, at, null);
      return true;
    },
  };
}

type Identities = Pick<Accounts, "createIdentity" | "identity" | "identities" | "touchIdentity" | "deleteIdentity">;

function identities(drops: Drops): Identities {
  const rows = new Map<string, ProviderIdentity>();
  dropOwn(drops, rows);
  const find = (issuer: string, subject: string) =>
    [...rows.values()].find((row) => row.issuer === issuer && row.subject === subject);
  return {
    async createIdentity(row) {
      if (rows.has(row.id) || find(row.issuer, row.subject) !== undefined) throw taken("This identity");
      rows.set(row.id, row);
    },
    identity: async (issuer, subject) => find(issuer, subject) ?? null,
    identities: async (userId) => [...rows.values()].filter((row) => row.userId === userId).toSorted(byAge),
    async touchIdentity(id, at) {
      const row = rows.get(id);
      if (row !== undefined) rows.set(id, { ...row, lastUsedAt: Math.max(row.lastUsedAt ?? 0, at) });
    },
    deleteIdentity: async (userId, id) => rows.get(id)?.userId === userId && rows.delete(id),
  };
}

type Passkeys = Pick<
  Accounts,
  "createPasskey" | "passkeys" | "passkeyFor" | "usePasskey" | "changePasskey" | "deletePasskey"
>;

function passkeys(drops: Drops): Passkeys {
  const rows = new Map<string, Passkey>();
  dropOwn(drops, rows);
  const find = (credentialId: string) => [...rows.values()].find((row) => row.credentialId === credentialId);
  return {
    async createPasskey(row) {
      if (rows.has(row.id) || find(row.credentialId) !== undefined) throw taken("This passkey");
      rows.set(row.id, row);
    },
    passkeys: async (userId) => [...rows.values()].filter((row) => row.userId === userId).toSorted(byAge),
    passkeyFor: async (credentialId) => find(credentialId) ?? null,
    async usePasskey(id, counter, at) {
      const row = rows.get(id);
      if (row === undefined || (counter <= row.counter && (counter !== 0 || row.counter !== 0))) return false;
      rows.set(id, { ...row, counter, lastUsedAt: Math.max(row.lastUsedAt ?? 0, at) });
      return true;
    },
    async changePasskey(userId, id, { name }) {
      const row = rows.get(id);
      if (row?.userId !== userId) return false;
      rows.set(id, { ...row, name });
      return true;
    },
    deletePasskey: async (userId, id) => rows.get(id)?.userId === userId && rows.delete(id),
  };
}

type Sessions = Pick<
  Accounts,
  | "createSession"
  | "session"
  | "openSessions"
  | "sessionByHash"
  | "rotateSession"
  | "confirmSession"
  | "revokeSession"
  | "revokeSessions"
>;

function sessions(drops: Drops): Sessions {
  const rows = new Map<string, Session>();
  dropOwn(drops, rows);
  const withHash = (hash: string) => [...rows.values()].find((row) => row.tokenHash === hash);
  const withPrevious = (hash: string) =>
    [...rows.values()].filter((row) => row.previousHash === hash).toSorted((a, b) => b.rotatedAt - a.rotatedAt)[0];
  return {
    async createSession(session) {
      if (rows.has(session.id) || withHash(session.tokenHash) !== undefined) throw taken("The session");
      rows.set(session.id, session);
    },
    session: async (id) => rows.get(id) ?? null,
    sessionByHash: async (hash) => withHash(hash) ?? withPrevious(hash) ?? null,
    openSessions: async (userId) =>
      [...rows.values()]
        .filter((row) => row.userId === userId && row.revokedAt === null)
        .toSorted((a, b) => b.rotatedAt - a.rotatedAt || (a.id < b.id ? -1 : 1)),
    async rotateSession(id, fromHash, toHash, at, address) {
      const row = rows.get(id);
      if (row === undefined || row.tokenHash !== fromHash || row.revokedAt !== null) return false;
      const place = address ?? row.address;
      rows.set(id, {
        ...row,
        tokenHash: toHash,
        previousHash: fromHash,
        rotatedAt: at,
        confirmedAt: null,
        address: place,
      });
      return true;
    },
    async confirmSession(id, tokenHash, at) {
      const row = rows.get(id);
      if (row?.tokenHash === tokenHash) rows.set(id, { ...row, confirmedAt: row.confirmedAt ?? at });
    },
    async revokeSession(id, at) {
      const row = rows.get(id);
      if (row !== undefined) rows.set(id, { ...row, revokedAt: row.revokedAt ?? at });
    },
    async revokeSessions(userId, at, except) {
      const live = [...rows.values()].filter(
        (row) => row.userId === userId && row.id !== except && row.revokedAt === null,
      );
      for (const row of live) rows.set(row.id, { ...row, revokedAt: at });
      return live.length;
    },
  };
}

function tokens(drops: Drops): Pick<Accounts, "createToken" | "tokenByHash" | "tokens" | "touchToken" | "deleteToken"> {
  const rows = new Map<string, AccessToken>();
  dropOwn(drops, rows);
  const withHash = (hash: string) => [...rows.values()].find((row) => row.hash === hash);
  return {
    async createToken(token) {
      if (rows.has(token.id) || withHash(token.hash) !== undefined) throw taken("The token");
      rows.set(token.id, token);
    },
    tokenByHash: async (hash) => withHash(hash) ?? null,
    tokens: async (userId) => [...rows.values()].filter((row) => row.userId === userId).toSorted(byAge),
    async touchToken(id, at) {
      const row = rows.get(id);
      if (row !== undefined) rows.set(id, { ...row, lastUsedAt: Math.max(row.lastUsedAt ?? 0, at) });
    },
    deleteToken: async (userId, id) => rows.get(id)?.userId === userId && rows.delete(id),
  };
}

function replies(drops: Drops): Pick<Accounts, "reply" | "putReply"> {
  const rows = new Map<string, Reply>();
  dropOwn(drops, rows);
  const keyOf = ({ userId, endpoint, key }: ReplyAddress): string => JSON.stringify([userId, endpoint, key]);
  return {
    reply: async (address) => rows.get(keyOf(address)) ?? null,
    async putReply(reply, { after, perUser }) {
      rows.set(keyOf(reply), reply);
      const own = [...rows.values()].filter(({ userId }) => userId === reply.userId).map(({ at }) => at);
      const oldest = own.toSorted((a, b) => b - a)[perUser - 1] ?? -Infinity;
      for (const [key, { at, userId }] of rows)
        if (at <= after || (userId === reply.userId && at < oldest)) rows.delete(key);
    },
  };
}

function credentials(
  drops: Drops,
): Pick<Accounts, "putCredential" | "credentials" | "credentialFor" | "touchCredential" | "deleteCredential"> {
  const rows = new Map<string, Credential>();
  dropOwn(drops, rows);
  const findAll = (userId: string) =>
    [...rows.values()].filter((row) => row.userId === userId).toSorted((a, b) => (a.host < b.host ? -1 : 1));
  return {
    async putCredential(credential) {
      const old = findAll(credential.userId).find(({ host }) => host === credential.host);
      if (old?.id !== credential.id && rows.has(credential.id)) throw taken("The credential");
      if (old !== undefined) rows.delete(old.id);
      rows.set(credential.id, credential);
    },
    credentials: async (userId) => findAll(userId),
    credentialFor: async (userId, host) => findAll(userId).find((row) => row.host === host) ?? null,
    async touchCredential(userId, id, at, use) {
      const row = rows.get(id);
      if (row?.userId === userId && (row.lastUsedAt ?? 0) <= at) rows.set(id, { ...row, lastUsedAt: at, lastUse: use });
    },
    deleteCredential: async (userId, id) => rows.get(id)?.userId === userId && rows.delete(id),
  };
}

function variables(drops: Drops): Pick<Accounts, "putVariable" | "variables" | "deleteVariable"> {
  const rows = new Map<string, StoredVariable>();
  dropOwn(drops, rows);
  const keyOf = (userId: string, repo: string, name: string): string => JSON.stringify([userId, repo, name]);
  const placeOf = ({ repo, name }: StoredVariable): string => `${repo}\n${name}`;
  return {
    putVariable: async (row) => void rows.set(keyOf(row.userId, row.repo, row.name), row),
    variables: async (userId, repo) =>
      [...rows.values()]
        .filter((row) => row.userId === userId && (repo === null || row.repo === repo))
        .toSorted((a, b) => (placeOf(a) < placeOf(b) ? -1 : 1)),
    deleteVariable: async (userId, repo, name) => rows.delete(keyOf(userId, repo, name)),
  };
}
