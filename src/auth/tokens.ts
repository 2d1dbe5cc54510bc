/**
 * Formats of access, refresh and personal tokens: created and validated without the store.
 *
 * B1 An access token is a JWT with one fixed algorithm; missing or additional header or payload
 *    fields are refused.
 * B2 The successor of a refresh token is derived from the token and the server's key: a repeated
 *    rotation yields the same one, and no token is stored in clear.
 * B3 Forged tokens (wrong tag, wrong checksum) are refused before the store is queried.
 */
import { createHash, createHmac, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";
import { crc32 } from "node:zlib";
import jwt from "jsonwebtoken";
import { z } from "zod";
import { SlipwayError } from "../core/error.ts";

const ALGORITHM = "HS256";
const TYPE = "at+jwt";
const ISSUER = "slipway";
const AUDIENCE = "slipway-api";
/** Longer than any token issued here; longer input is not parsed. */
const TOKEN_LIMIT = 2_048;

const seconds = z.int().min(0);
const headerSchema = z.strictObject({ alg: z.literal(ALGORITHM), typ: z.literal(TYPE) });
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

/** Signs and verifies tokens, with one key per use derived from the installation's secret. */
export class TokenSigner {
  readonly #accessKey: Buffer;
  readonly #refreshKey: Buffer;

  /** @param secret at least 32 random bytes; throws `config_invalid` otherwise. */
  constructor(secret: Buffer) {
    if (secret.length < 32)
      throw new SlipwayError("config_invalid", "The server's secret must have at least 32 bytes.");
    const derive = (use: string): Buffer => Buffer.from(hkdfSync("sha256", secret, "", `slipway ${use}`, 32));
    this.#accessKey = derive("access token");
    this.#refreshKey = derive("refresh token");
  }

  signAccess(claims: AccessClaims, jti: string, now: number): string {
    const iat = Math.floor(now / 1_000);
    const exp = Math.floor(claims.expiresAt / 1_000);
    const payload = { iss: ISSUER, aud: AUDIENCE, sub: claims.userId, sid: claims.sessionId, jti, iat, exp };
    return jwt.sign(payload, this.#accessKey, { algorithm: ALGORITHM, header: { alg: ALGORITHM, typ: TYPE } });
  }

  /** The claims of a token that was signed here and has not expired; otherwise null (B1). */
  readAccess(text: string, now: number): AccessClaims | null {
    if (text.length > TOKEN_LIMIT || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(text)) return null;
    let verified: jwt.Jwt;
    try {
      verified = jwt.verify(text, this.#accessKey, {
        algorithms: [ALGORITHM],
        issuer: ISSUER,
        audience: AUDIENCE,
        clockTimestamp: Math.floor(now / 1_000),
        complete: true,
      });
    } catch {
      return null;
    }
    const claims = claimsSchema.safeParse(verified.payload);
    if (!claims.success || !headerSchema.safeParse(verified.header).success) return null;
    return { userId: claims.data.sub, sessionId: claims.data.sid, expiresAt: claims.data.exp * 1_000 };
  }

  /** `rt_<session>.<32 bytes>.<tag>`. */
  firstRefresh(sessionId: string): string {
    return this.#refresh(sessionId, randomBytes(32));
  }

  /** The one successor of a refresh token (B2). */
  nextRefresh(token: RefreshToken): string {
    return this.#refresh(token.sessionId, this.#mac(`next\n${token.text}`));
  }

  /**
   * Null when the token was not issued here (B3). Expiry and revocation are the session's state.
   */
  readRefresh(text: string): RefreshToken | null {
    const match = /^rt_(\w{1,64})\.([\w-]{43})\.[\w-]{22}$/.exec(text);
    const [, sessionId, body] = match ?? [];
    if (sessionId === undefined || body === undefined) return null;
    return equalSecrets(text, this.#refresh(sessionId, Buffer.from(body, "base64url"))) ? { text, sessionId } : null;
  }

  #refresh(sessionId: string, bytes: Buffer): string {
    const body = `rt_${sessionId}.${bytes.toString("base64url")}`;
    return `${body}.${this.#mac(`tag\n${body}`).subarray(0, 16).toString("base64url")}`;
  }

  #mac(text: string): Buffer {
    return createHmac("sha256", this.#refreshKey).update(text).digest();
  }
}

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
