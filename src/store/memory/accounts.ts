/** Users, sessions, tokens and credentials in memory. */
import type {
  AccessToken,
  Accounts,
  Credential,
  Reply,
  ReplyAddress,
  Session,
  User,
} from "../../core/ports/accounts.ts";
import { SlipwayError } from "../../core/error.ts";

const taken = (what: string): SlipwayError => new SlipwayError("conflict", `${what} already exists.`);

export function memoryAccounts(): Accounts {
  return { ...users(), ...sessions(), ...tokens(), ...credentials(), ...replies() };
}

function users(): Pick<Accounts, "createUser" | "user" | "login" | "users"> {
  const rows = new Map<string, User & { readonly passwordHash: string }>();
  const withEmail = (email: string) => [...rows.values()].find((row) => row.email === email.toLowerCase());
  const withoutHash = ({ id, email, role, createdAt }: User): User => ({ id, email, role, createdAt });
  return {
    async createUser(user) {
      if (rows.has(user.id) || withEmail(user.email) !== undefined) throw taken("A user with this e-mail");
      rows.set(user.id, { ...user, email: user.email.toLowerCase() });
    },
    async user(id) {
      const row = rows.get(id);
      return row === undefined ? null : withoutHash(row);
    },
    login: async (email) => withEmail(email) ?? null,
    users: async () =>
      [...rows.values()].map(withoutHash).toSorted((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1)),
  };
}

function sessions(): Pick<Accounts, "createSession" | "session" | "sessionByHash" | "rotateSession" | "revokeSession"> {
  const rows = new Map<string, Session>();
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
    async rotateSession(id, fromHash, toHash, at) {
      const row = rows.get(id);
      if (row === undefined || row.tokenHash !== fromHash || row.revokedAt !== null) return false;
      rows.set(id, { ...row, tokenHash: toHash, previousHash: fromHash, rotatedAt: at });
      return true;
    },
    async revokeSession(id, at) {
      const row = rows.get(id);
      if (row !== undefined) rows.set(id, { ...row, revokedAt: row.revokedAt ?? at });
    },
  };
}

function tokens(): Pick<Accounts, "createToken" | "tokenByHash" | "tokens" | "touchToken" | "deleteToken"> {
  const rows = new Map<string, AccessToken>();
  const withHash = (hash: string) => [...rows.values()].find((row) => row.hash === hash);
  return {
    async createToken(token) {
      if (rows.has(token.id) || withHash(token.hash) !== undefined) throw taken("The token");
      rows.set(token.id, token);
    },
    tokenByHash: async (hash) => withHash(hash) ?? null,
    tokens: async (userId) =>
      [...rows.values()]
        .filter((row) => row.userId === userId)
        .toSorted((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1)),
    async touchToken(id, at) {
      const row = rows.get(id);
      if (row !== undefined) rows.set(id, { ...row, lastUsedAt: Math.max(row.lastUsedAt ?? 0, at) });
    },
    deleteToken: async (userId, id) => rows.get(id)?.userId === userId && rows.delete(id),
  };
}

function replies(): Pick<Accounts, "reply" | "putReply"> {
  const rows = new Map<string, Reply>();
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

function credentials(): Pick<Accounts, "putCredential" | "credentials" | "credentialFor" | "deleteCredential"> {
  const rows = new Map<string, Credential>();
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
    deleteCredential: async (userId, id) => rows.get(id)?.userId === userId && rows.delete(id),
  };
}
