/**
 * Formats of access, refresh and personal tokens: created and validated without the store.
 *
 * B1 An access token is a JWT with one fixed algorithm; missing or additional header or payload
 *    fields are refused. Its `kid` only chooses among the keys of this server; tokens from before
 *    there were key ids have none.
 * B2 The successor of a refresh token is derived from the token and the server's key: a repeated
 *    rotation yields the same one, and no token is stored in clear. After a rotation of the keys
 *    a retired key may have derived it.
 * B3 Forged tokens (wrong tag, wrong checksum) are refused before the store is queried.
 */
import {
  createHash,
  createHmac,
  createSecretKey,
  hkdfSync,
  randomBytes,
  timingSafeEqual,
  type KeyObject,
} from "node:crypto";
import { crc32 } from "node:zlib";
import jwt from "jsonwebtoken";
import { z } from "zod";
import { SlipwayError } from "../../core/error.ts";
import type { KeySource } from "../../core/ports/accounts.ts";

const ALGORITHM = "HS256";
const TYPE = "at+jwt";
const ISSUER = "slipway";
const AUDIENCE = "slipway-api";
/** Longer than any token issued here; longer input is not parsed. */
const TOKEN_LIMIT = 2_048;

const seconds = z.int().min(0);
const headerSchema = z.strictObject({
  alg: z.literal(ALGORITHM),
  typ: z.literal(TYPE),
  kid: z.string().optional(),
});
const claimsSchema = z.strictObject({
  iss: z.literal(ISSUER),
  aud: z.literal(AUDIENCE),
  sub: z.string().min(1),
  sid: z.string().min(1),
  jti: z.string().min(1),
  iat: seconds,
  exp: seconds,
});

export interface AccessClaims {
  readonly userId: string;
  readonly sessionId: string;
  /** Epoch ms. */
  readonly expiresAt: number;
}

export interface RefreshToken {
  readonly text: string;
  readonly sessionId: string;
}

export function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** The last part of an id that is derived. */
export function shortDigest(text: string): string {
  return sha256(text).slice(0, 26);
}

/** Compares in a time that does not depend on where the secrets differ. */
export function equalSecrets(a: string, b: string): boolean {
  return timingSafeEqual(createHash("sha256").update(a).digest(), createHash("sha256").update(b).digest());
}

/** What the two kinds of tokens of a session are signed with. */
interface SessionKey {
  readonly id: string;
  /** As a key object: from bytes, every signature and every check would try to make one. */
  readonly access: KeyObject;
  readonly refresh: Buffer;
  readonly retiredAt: number | null;
}

export interface SignerOptions {
  readonly keys: KeySource;
  /** How long an access token is valid, ms. */
  readonly accessTtlMs: number;
}

/** A clock that was set back a little does not end sessions, ms. */
const SKEW_MS = 60_000;

/** Signs with the active key, and verifies with all that are accepted. */
export class TokenSigner {
  readonly #options: SignerOptions;
  readonly #derived = new Map<string, Pick<SessionKey, "access" | "refresh">>();

  /** @throws SlipwayError `config_invalid` unless each key has at least 32 bytes. */
  constructor(options: SignerOptions) {
    this.#options = options;
    this.#keys();
  }

  signAccess(claims: AccessClaims, jti: string, now: number): string {
    const { id: kid, access } = this.#active();
    const iat = Math.floor(now / 1_000);
    const exp = Math.floor(claims.expiresAt / 1_000);
    const payload = { iss: ISSUER, aud: AUDIENCE, sub: claims.userId, sid: claims.sessionId, jti, iat, exp };
    return jwt.sign(payload, access, { algorithm: ALGORITHM, header: { alg: ALGORITHM, typ: TYPE, kid } });
  }

  /** The claims of a token that was signed here and has not expired; otherwise null (B1). */
  readAccess(text: string, now: number): AccessClaims | null {
    if (text.length > TOKEN_LIMIT || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(text)) return null;
    const header = headerSchema.safeParse(readHeader(text));
    if (!header.success) return null;
    const { kid } = header.data;
    for (const key of this.#keys()) {
      if (kid !== undefined && kid !== key.id) continue;
      // What a retired key signs now was not signed here.
      if (key.retiredAt !== null && now >= key.retiredAt + this.#options.accessTtlMs + SKEW_MS) continue;
      const claims = verify(text, key.access, now);
      if (claims !== null) return claims;
    }
    return null;
  }

  /** `rt_<session>.<32 bytes>.<tag>`. */
  firstRefresh(sessionId: string): string {
    return makeRefresh(this.#active(), sessionId, randomBytes(32));
  }

  /** The successor of a refresh token by the active key (B2). */
  nextRefresh(token: RefreshToken): string {
    return deriveNext(this.#active(), token);
  }

  /** The successor with this hash, whichever key derived it (B2); null when it has another one. */
  successor(token: RefreshToken, hash: string): string | null {
    return (
      this.#keys()
        .map((key) => deriveNext(key, token))
        .find((next) => sha256(next) === hash) ?? null
    );
  }

  /**
   * Null when the token was not issued here (B3). Expiry and revocation are the session's state.
   */
  readRefresh(text: string): RefreshToken | null {
    const match = /^rt_(\w{1,64})\.([\w-]{43})\.[\w-]{22}$/.exec(text);
    const [, sessionId, body] = match ?? [];
    if (sessionId === undefined || body === undefined) return null;
    const bytes = Buffer.from(body, "base64url");
    const isOurs = this.#keys().some((key) => equalSecrets(text, makeRefresh(key, sessionId, bytes)));
    return isOurs ? { text, sessionId } : null;
  }

  /** The active key first. */
  #keys(): SessionKey[] {
    return this.#options.keys().map(({ id, bytes, retiredAt }) => {
      let derived = this.#derived.get(id);
      if (derived === undefined) this.#derived.set(id, (derived = deriveKeys(bytes)));
      return { id, retiredAt, ...derived };
    });
  }

  #active(): SessionKey {
    const [key] = this.#keys();
    if (key === undefined) throw new SlipwayError("internal", "There is no key to sign with.");
    return key;
  }
}

function deriveKeys(secret: Uint8Array): Pick<SessionKey, "access" | "refresh"> {
  if (secret.length < 32) throw new SlipwayError("config_invalid", "The server's secret must have at least 32 bytes.");
  const derive = (use: string): Buffer => Buffer.from(hkdfSync("sha256", secret, "", `slipway ${use}`, 32));
  return { access: createSecretKey(derive("access token")), refresh: derive("refresh token") };
}

function verify(text: string, key: KeyObject, now: number): AccessClaims | null {
  try {
    const verified = jwt.verify(text, key, {
      algorithms: [ALGORITHM],
      issuer: ISSUER,
      audience: AUDIENCE,
      clockTimestamp: Math.floor(now / 1_000),
    });
    const { sub, sid, exp } = claimsSchema.parse(verified);
    return { userId: sub, sessionId: sid, expiresAt: exp * 1_000 };
  } catch {
    return null;
  }
}

function readHeader(text: string): unknown {
  try {
    return JSON.parse(Buffer.from(text.split(".", 1)[0] ?? "", "base64url").toString("utf8"));
  } catch {
    return null;
  }
}

const mac = ({ refresh }: SessionKey, text: string): Buffer => createHmac("sha256", refresh).update(text).digest();

function makeRefresh(key: SessionKey, sessionId: string, bytes: Buffer): string {
  const body = `rt_${sessionId}.${bytes.toString("base64url")}`;
  return `${body}.${mac(key, `tag\n${body}`).subarray(0, 16).toString("base64url")}`;
}

const deriveNext = (key: SessionKey, token: RefreshToken): string =>
  makeRefresh(key, token.sessionId, mac(key, `next\n${token.text}`));

const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

function base62(value: bigint, width: number): string {
  let rest = value;
  let text = "";
  for (let i = 0; i < width; i++) {
    text = BASE62.charAt(Number(rest % 62n)) + text;
    rest /= 62n;
  }
  return text;
}

const checksum = (body: string): string => base62(BigInt(crc32(body)), 6);

/**
 * `slp_<32 bytes in base 62><CRC-32>`: secret scanners recognize it, and a mistyped one is refused
 * without a query.
 */
export function newPersonalToken(): string {
  const body = `slp_${base62(BigInt(`0x${randomBytes(32).toString("hex")}`), 43)}`;
  return body + checksum(body);
}

export function isPersonalToken(text: string): boolean {
  return /^slp_[0-9A-Za-z]{49}$/.test(text) && checksum(text.slice(0, -6)) === text.slice(-6);
}
