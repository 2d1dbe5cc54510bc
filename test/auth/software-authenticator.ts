/**
 * An authenticator in software: makes one passkey and signs with it, also what no browser would.
 * Its answers are in the form that browsers send.
 */
import { createHash, generateKeyPairSync, randomBytes, sign, type KeyObject } from "node:crypto";

export interface Ceremony {
  readonly challenge: string;
  readonly rpId?: string;
  readonly rp?: { readonly id?: string };
  readonly user?: { readonly id: string };
}

/** What an attacker may change. */
export interface Twist {
  readonly origin?: string;
  readonly rpId?: string;
  readonly challenge?: string;
  readonly type?: string;
  readonly isVerified?: boolean;
  readonly counter?: number;
  readonly userHandle?: string;
  readonly credentialId?: string;
  readonly key?: KeyObject;
}

const sha256 = (data: string | Uint8Array): Buffer => createHash("sha256").update(data).digest();
const base64url = (data: Uint8Array): string => Buffer.from(data).toString("base64url");

/** CBOR of byte strings from 24 bytes to 255, in the shortest form. */
const cborBytes = (data: Uint8Array): Buffer => Buffer.concat([Buffer.from([0x58, data.length]), data]);
const cborText = (text: string): Buffer => Buffer.concat([Buffer.from([0x60 + text.length]), Buffer.from(text)]);

export class SoftwareAuthenticator {
  readonly credentialId = base64url(randomBytes(16));
  readonly #keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
  readonly #origin: string;
  #rpId = "";
  #userHandle = "";
  /** Of the last signature. Set it back to be a copy. */
  counter = 0;

  constructor(origin: string) {
    this.#origin = origin;
  }

  /** The answer to `options` of a new passkey. */
  create({ challenge, rp, user }: Ceremony, twist: Twist = {}) {
    this.#rpId = rp?.id ?? "";
    this.#userHandle = user?.id ?? "";
    const { x = "", y = "" } = this.#keys.publicKey.export({ format: "jwk" });
    const id = Buffer.from(this.credentialId, "base64url");
    const key = Buffer.concat([
      Buffer.from([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21]),
      cborBytes(Buffer.from(x, "base64url")),
      Buffer.from([0x22]),
      cborBytes(Buffer.from(y, "base64url")),
    ]);
    const attested = Buffer.concat([Buffer.alloc(16), Buffer.from([id.length >> 8, id.length & 0xff]), id, key]);
    const attestationObject = Buffer.concat([
      Buffer.from([0xa3]),
      cborText("fmt"),
      cborText("none"),
      cborText("attStmt"),
      Buffer.from([0xa0]),
      cborText("authData"),
      cborBytes(Buffer.concat([this.#authData(twist, 0x40), attested])),
    ]);
    const clientDataJSON = this.#clientData("webauthn.create", challenge, twist);
    const response = { clientDataJSON, attestationObject: base64url(attestationObject), transports: ["internal"] };
    return this.#answer(response, twist);
  }

  /** The answer to `options` of a log-in. */
  get({ challenge }: Ceremony, twist: Twist = {}) {
    if (twist.counter === undefined) this.counter++;
    const authData = this.#authData(twist, 0);
    const clientDataJSON = this.#clientData("webauthn.get", challenge, twist);
    const signed = Buffer.concat([authData, sha256(Buffer.from(clientDataJSON, "base64url"))]);
    const signature = base64url(sign("sha256", signed, twist.key ?? this.#keys.privateKey));
    const userHandle = twist.userHandle ?? this.#userHandle;
    return this.#answer({ clientDataJSON, authenticatorData: base64url(authData), signature, userHandle }, twist);
  }

  #answer<Response>(response: Response, { credentialId }: Twist) {
    const id = credentialId ?? this.credentialId;
    return { id, rawId: id, type: "public-key", clientExtensionResults: {}, response };
  }

  #authData({ rpId, isVerified = true, counter }: Twist, more: number): Buffer {
    const flags = 0x01 | (isVerified ? 0x04 : 0) | more;
    const count = Buffer.alloc(4);
    count.writeUInt32BE(counter ?? this.counter);
    return Buffer.concat([sha256(rpId ?? this.#rpId), Buffer.from([flags]), count]);
  }

  #clientData(type: string, challenge: string, twist: Twist): string {
    const data = {
      type: twist.type ?? type,
      challenge: twist.challenge ?? challenge,
      origin: twist.origin ?? this.#origin,
      crossOrigin: false,
    };
    return base64url(Buffer.from(JSON.stringify(data)));
  }
}
