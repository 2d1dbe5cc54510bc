/**
 * A place in a bucket of S3-compatible storage. Loads the SDK: import it where a bucket is used.
 *
 * O1 An object appears whole or not at all. A large one is sent in parts; an upload that fails is
 *    taken back, and what a killed process left is removed by `abandonUploads`.
 * O2 Memory does not grow with the size of an object: at most PARTS parts are held.
 * O3 Each request is tried again with back-off. A download that breaks goes on where it ended.
 * O4 Only what every such storage has is used: no checksums in trailers, no deletion of many.
 */
import { createHash } from "node:crypto";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  S3Client,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { formatBucketAddress, type BucketAddress } from "./bucket-address.ts";
import { statusOf, toStorageError } from "./storage-error.ts";

export interface BucketOptions {
  readonly address: BucketAddress;
  /** Null = AWS. */
  readonly endpoint: string | null;
  readonly region: string;
  readonly pathStyle: boolean;
  readonly keyId: string;
  readonly secret: string;
  readonly sessionToken: string | null;
  /** A connection on which nothing moves ends after this, ms. */
  readonly idleMs?: number;
  /** Of one request. */
  readonly tries?: number;
  /** At least 5 MiB. */
  readonly partBytes?: number;
}

export interface StoredObject {
  /** Below the prefix of the bucket's address. */
  readonly key: string;
  readonly bytes: number;
  /** Epoch ms. */
  readonly at: number;
}

interface PutOptions {
  readonly signal?: AbortSignal;
  /** Called with all bytes that were read so far. */
  readonly onBytes?: (bytes: number) => void;
}

const IDLE_MS = 60_000;
const CONNECT_MS = 10_000;
const TRIES = 5;
/** 10,000 parts are the most that a storage takes: an object has 160 GB at most. */
const PART_BYTES = 16 * 2 ** 20;
const PARTS = 2;
/** How often a download goes on without a byte in between. */
const RESUMES = 5;
const RESUME_MS = 200;

export class Bucket {
  /** For people. */
  readonly name: string;
  readonly #address: BucketAddress;
  readonly #at: string;
  readonly #client: S3Client;
  readonly #idleMs: number;
  readonly #partBytes: number;

  constructor({ address, endpoint, region, pathStyle, idleMs = IDLE_MS, tries = TRIES, ...more }: BucketOptions) {
    this.name = formatBucketAddress(address);
    this.#address = address;
    this.#at = endpoint ?? `S3 in ${region}`;
    this.#idleMs = idleMs;
    this.#partBytes = more.partBytes ?? PART_BYTES;
    const { keyId: accessKeyId, secret: secretAccessKey, sessionToken } = more;
    this.#client = new S3Client({
      region,
      ...(endpoint === null ? {} : { endpoint }),
      forcePathStyle: pathStyle,
      credentials: { accessKeyId, secretAccessKey, ...(sessionToken === null ? {} : { sessionToken }) },
      maxAttempts: tries,
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
      requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: idleMs },
    });
  }

  /**
   * Writes an object from a stream. @returns its size and digest, as they were read from the
   * stream. Nothing is stored when it rejects.
   */
  async put(
    key: string,
    content: Readable,
    { signal, onBytes }: PutOptions = {},
  ): Promise<{ bytes: number; sha256: string }> {
    const hash = createHash("sha256");
    let bytes = 0;
    const body = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        bytes += chunk.length;
        onBytes?.(bytes);
        done(null, chunk);
      },
    });
    const read = pipeline(content, body, signal === undefined ? {} : { signal });
    // The upload reads the same failure from the body.
    read.catch(() => undefined);
    const params = { ...this.#where(key), Body: body, ContentType: "application/octet-stream" };
    const upload = new Upload({
      client: this.#client,
      params,
      partSize: this.#partBytes,
      queueSize: PARTS,
      leavePartsOnError: true,
    });
    const stop = (): void => void upload.abort();
    signal?.addEventListener("abort", stop, { once: true });
    try {
      signal?.throwIfAborted();
      await upload.done();
      await read;
      return { bytes, sha256: hash.digest("hex") };
    } catch (error) {
      const failure = body.errored;
      body.destroy();
      content.destroy();
      if (upload.uploadId !== undefined) await this.#abandon(this.#fullKey(key), upload.uploadId);
      if (signal?.aborted === true) throw signal.reason as Error;
      // What the stream failed with, unless it failed because the upload did.
      const isCause = failure !== null && !/^(?:ABORT_ERR|ERR_STREAM_PREMATURE_CLOSE)$/.test(codeOf(failure));
      throw isCause ? failure : this.#explain(error, `write ${this.#nameOf(key)}`);
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  }

  putText(key: string, text: string, options: PutOptions = {}): Promise<{ bytes: number; sha256: string }> {
    return this.put(key, Readable.from([Buffer.from(text)]), options);
  }

  /** Null when there is no such object. `content` rejects unless all of it came. */
  async get(
    key: string,
    signal?: AbortSignal,
  ): Promise<{ readonly bytes: number; readonly content: AsyncIterable<Uint8Array> } | null> {
    const first = await this.#open(key, 0, null, signal);
    if (first === null) return null;
    return { bytes: first.bytes, content: this.#read(key, first, signal) };
  }

  /** Null when there is no such object. For small ones. */
  async getText(key: string): Promise<string | null> {
    const found = await this.get(key);
    if (found === null) return null;
    const pieces: Uint8Array[] = [];
    for await (const piece of found.content) pieces.push(piece);
    return Buffer.concat(pieces).toString("utf8");
  }

  /** Null when there is no such object. */
  async size(key: string): Promise<number | null> {
    try {
      return (await this.#client.send(new HeadObjectCommand(this.#where(key)))).ContentLength ?? 0;
    } catch (error) {
      if (statusOf(error) === 404) return null;
      throw this.#explain(error, `read ${this.#nameOf(key)}`);
    }
  }

  /** Objects whose keys start with `begin`, sorted by key. */
  async list(begin = ""): Promise<StoredObject[]> {
    const found: StoredObject[] = [];
    const { bucket: Bucket } = this.#address;
    const skip = this.#fullKey("").length;
    try {
      for (let token: string | undefined, isFirst = true; isFirst || token !== undefined; isFirst = false) {
        const page = await this.#client.send(
          new ListObjectsV2Command({
            Bucket,
            Prefix: this.#fullKey(begin),
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
        );
        for (const { Key = "", Size = 0, LastModified } of page.Contents ?? [])
          found.push({ key: Key.slice(skip), bytes: Size, at: LastModified?.getTime() ?? 0 });
        token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
      }
    } catch (error) {
      throw this.#explain(error, `list ${this.#nameOf(begin)}`);
    }
    return found.toSorted((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** Idempotent. */
  async remove(key: string): Promise<void> {
    try {
      await this.#client.send(new DeleteObjectCommand(this.#where(key)));
    } catch (error) {
      if (statusOf(error) === 404) return;
      throw this.#explain(error, `remove ${this.#nameOf(key)}`);
    }
  }

  /**
   * Removes the parts of uploads that have not ended, whose keys are chosen. @returns how many; 0
   * where a storage cannot list them: a rule of the bucket has to remove them there.
   */
  async abandonUploads(isChosen: (key: string) => boolean): Promise<number> {
    const { bucket: Bucket } = this.#address;
    const begin = this.#fullKey("");
    let removed = 0;
    try {
      for (let [after, isLast] = [{}, false]; !isLast;) {
        const page = await this.#client.send(new ListMultipartUploadsCommand({ Bucket, Prefix: begin, ...after }));
        for (const { Key = "", UploadId } of page.Uploads ?? [])
          if (UploadId !== undefined && Key.startsWith(begin) && isChosen(Key.slice(begin.length))) {
            await this.#abandon(Key, UploadId);
            removed += 1;
          }
        after = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
        isLast = page.IsTruncated !== true;
      }
    } catch (error) {
      const status = statusOf(error);
      if (status !== 501 && status !== 405) throw this.#explain(error, `list the open uploads of ${this.name}`);
    }
    return removed;
  }

  close(): void {
    this.#client.destroy();
  }

  /** After any failure the next clean-up removes what is left. */
  async #abandon(Key: string, UploadId: string): Promise<void> {
    const { bucket: Bucket } = this.#address;
    await this.#client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId })).catch(() => undefined);
  }

  /** @param etag null = the first request. @returns null when there is no such object. */
  async #open(key: string, from: number, etag: string | null, signal: AbortSignal | undefined): Promise<Opened | null> {
    const rest = from === 0 ? {} : { Range: `bytes=${from}-` };
    const same = etag === null ? {} : { IfMatch: etag };
    try {
      const command = new GetObjectCommand({ ...this.#where(key), ...rest, ...same });
      const answer = await this.#client.send(command, signal === undefined ? {} : { abortSignal: signal });
      const body = answer.Body as Readable;
      if (from > 0 && answer.ContentRange === undefined) {
        body.destroy();
        throw new Error("it sends no part of an object");
      }
      return { body, bytes: from + (answer.ContentLength ?? 0), etag: answer.ETag ?? null };
    } catch (error) {
      if (error instanceof Error && error.name === "NoSuchKey") return null;
      if (signal?.aborted === true) throw signal.reason as Error;
      throw this.#explain(error, `read ${this.#nameOf(key)}`);
    }
  }

  /** O3. */
  async *#read(key: string, first: Opened, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    const { bytes, etag } = first;
    let [at, failures] = [0, 0];
    for (let body = first.body; at < bytes;) {
      const before = at;
      let failure: unknown = new Error("the connection ended early");
      try {
        for await (const piece of this.#watched(body)) {
          at += piece.length;
          yield piece;
        }
      } catch (error) {
        failure = error;
      } finally {
        body.destroy();
      }
      if (at >= bytes) return;
      signal?.throwIfAborted();
      failures = at > before ? 1 : failures + 1;
      if (failures > RESUMES) throw this.#explain(failure, `read ${this.#nameOf(key)}`);
      await delay(RESUME_MS * 2 ** failures, undefined, signal === undefined ? {} : { signal });
      const next = await this.#open(key, at, etag, signal);
      if (next === null) throw this.#explain(failure, `read ${this.#nameOf(key)}`);
      ({ body } = next);
    }
  }

  /** Ends when no byte comes while one is waited for. */
  async *#watched(body: Readable): AsyncGenerator<Uint8Array> {
    const watch = (): NodeJS.Timeout =>
      setTimeout(() => body.destroy(new Error(`no byte came for ${this.#idleMs} ms`)), this.#idleMs);
    let timer = watch();
    try {
      for await (const piece of body as AsyncIterable<Uint8Array>) {
        clearTimeout(timer);
        yield piece;
        timer = watch();
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #where(key: string): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.#address.bucket, Key: this.#fullKey(key) };
  }

  #fullKey(key: string): string {
    return this.#address.prefix === "" ? key : `${this.#address.prefix}/${key}`;
  }

  #nameOf(key: string): string {
    return `s3://${this.#address.bucket}/${this.#fullKey(key)}`;
  }

  #explain(error: unknown, what: string): Error {
    return toStorageError(error, { what, bucket: this.#address.bucket, at: this.#at });
  }
}

const codeOf = (error: Error): string => ("code" in error ? String(error.code) : "");

interface Opened {
  readonly body: Readable;
  readonly bytes: number;
  readonly etag: string | null;
}
