/** Objects in real S3-compatible storage, through a proxy that cuts, refuses and stalls. */
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { CreateMultipartUploadCommand, S3Client } from "@aws-sdk/client-s3";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Bucket, type BucketOptions } from "../../../src/store/bucket/bucket.ts";
import { createRandom } from "../../support/random.ts";
import { hasServer, SERVERS } from "../../support/hostile/storage-servers.ts";
import { BUCKET, startStorage, type Fault, type Passed, type Storage } from "../../support/hostile/storage.ts";

const MIB = 2 ** 20;
let storage: Storage;

function open(more: Partial<BucketOptions> = {}): Bucket {
  return new Bucket({
    address: { bucket: BUCKET, prefix: "some/where" },
    endpoint: storage.url,
    region: "us-east-1",
    pathStyle: true,
    keyId: storage.keyId,
    secret: storage.secret,
    sessionToken: null,
    // A busy machine answers late; only a test of silence waits for less.
    idleMs: 20_000,
    tries: 3,
    partBytes: 5 * MIB,
    ...more,
  });
}

/** The same bytes for the same length. */
function bytesOf(length: number): Buffer {
  const random = createRandom(7);
  const bytes = Buffer.alloc(length);
  for (let at = 0; at + 4 <= length; at += 4_096) bytes.writeUInt32LE(Math.floor(random() * 2 ** 32), at);
  return bytes;
}

function* pieces(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536);
}

async function read(bucket: Bucket, key: string): Promise<Buffer | null> {
  const found = await bucket.get(key);
  if (found === null) return null;
  const read: Uint8Array[] = [];
  for await (const piece of found.content) read.push(piece);
  return Buffer.concat(read);
}

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const isPart = ({ method, path }: Passed): boolean => method === "PUT" && path.includes("partNumber=2");

/** The first requests of this kind meet the fault, so many of them. */
function meet(times: number, kind: (request: Passed) => boolean, fault: Fault): void {
  let left = times;
  storage.fail((request) => (kind(request) && left-- > 0 ? fault : null));
}

describe.each(SERVERS.filter(hasServer))("[M13] an object in %s", (server) => {
  beforeAll(async () => {
    storage = await startStorage(server);
  });
  afterEach(() => storage.heal());
  afterAll(() => storage?.close());

  it.each([0, 5, 16 * MIB])("of %i bytes is read as it was written", async (length) => {
    const bucket = open();
    const bytes = bytesOf(length);
    const stored = await bucket.put("a/object", Readable.from(pieces(bytes)));
    expect(stored).toEqual({ bytes: length, sha256: digest(bytes) });
    expect(await bucket.size("a/object")).toBe(length);
    expect(digest((await read(bucket, "a/object")) ?? Buffer.from("?"))).toBe(digest(bytes));
    expect(await bucket.list("a/")).toMatchObject([{ key: "a/object", bytes: length }]);
    await bucket.remove("a/object");
    await bucket.remove("a/object");
    expect([await bucket.size("a/object"), await bucket.get("a/object"), await bucket.list()]).toEqual([
      null,
      null,
      [],
    ]);
    expect(storage.uploads.size).toBe(0);
    bucket.close();
  });

  it.each<[string, number, (request: Passed) => boolean, Fault]>([
    ["a part that is cut off in its middle", 2, isPart, { cutAfter: MIB / 2, side: "request" }],
    ["a part that gets 500 and 503", 2, isPart, { status: 503, code: "SlowDown" }],
    ["a part whose answer never comes", 1, isPart, "stall"],
    [
      "an end that gets 500",
      2,
      ({ method, path }) => method === "POST" && path.includes("uploadId"),
      { status: 500, code: "InternalError" },
    ],
  ])("is written whole after %s", async (_, times, kind, fault) => {
    const bucket = open(fault === "stall" ? { idleMs: 4_000 } : {});
    meet(times, kind, fault);
    const bytes = bytesOf(6 * MIB);
    const { sha256 } = await bucket.put("hurt", Readable.from(pieces(bytes)));
    expect(digest((await read(bucket, "hurt")) ?? Buffer.from("?"))).toBe(sha256);
    expect(storage.uploads.size).toBe(0);
    await bucket.remove("hurt");
    bucket.close();
  });

  it("is read whole when its download is cut off, from where it ended", async () => {
    const bucket = open();
    const bytes = bytesOf(4 * MIB);
    await bucket.put("cut", Readable.from(pieces(bytes)));
    const before = storage.seen.length;
    meet(2, ({ method }) => method === "GET", { cutAfter: MIB, side: "answer" });
    expect(digest((await read(bucket, "cut")) ?? Buffer.from("?"))).toBe(digest(bytes));
    const ranges = storage.seen.slice(before).map(({ range }) => range);
    expect(ranges).toHaveLength(3);
    expect(ranges[1]).toMatch(/^bytes=[1-9]\d*-$/);
    await bucket.remove("cut");
    bucket.close();
  });

  it.each<[string, Fault, RegExp, string]>([
    [
      "403",
      { status: 403, code: "AccessDenied" },
      /key may not do that.*list the bucket slipway-test.*delete/,
      "storage_refused",
    ],
    [
      "a key that is unknown",
      { status: 403, code: "InvalidAccessKeyId" },
      /SLIPWAY_S3_ACCESS_KEY_ID/,
      "storage_refused",
    ],
    [
      "a bucket that is gone",
      { status: 404, code: "NoSuchBucket" },
      /no bucket slipway-test.*Create it/,
      "storage_refused",
    ],
    ["another region", { status: 301, code: "PermanentRedirect" }, /SLIPWAY_S3_REGION/, "storage_refused"],
    [
      "a storage that is full",
      { status: 507, code: "XMinioStorageFull" },
      /is full.*raise its quota/,
      "storage_refused",
    ],
    [
      "500 each time",
      { status: 500, code: "InternalError" },
      /answered 500 InternalError.*tried again/,
      "storage_unavailable",
    ],
    [
      "connections that are cut each time",
      { cutAfter: 1_000, side: "request" },
      /did not answer in full/,
      "storage_unavailable",
    ],
  ])(
    "that cannot be written for %s is not there, no part of it is, and the error says what to do",
    async (_, fault, words, code) => {
      const bucket = open();
      meet(Infinity, isPart, fault);
      const failed = bucket.put("gone", Readable.from(pieces(bytesOf(6 * MIB))));
      await expect(failed).rejects.toMatchObject({ code, message: expect.stringMatching(words) });
      await expect(failed).rejects.toThrow(/^Slipway could not write s3:\/\/slipway-test\/some\/where\/gone: /);
      storage.heal();
      expect([await bucket.list(), storage.uploads.size]).toEqual([[], 0]);
      bucket.close();
    },
  );

  it("that cannot be written because nothing listens says where nothing does", async () => {
    const bucket = open({ endpoint: "http://127.0.0.1:9" });
    await expect(bucket.putText("x", "x")).rejects.toMatchObject({
      code: "storage_unavailable",
      message: expect.stringContaining("http://127.0.0.1:9 cannot be reached (ECONNREFUSED)"),
    });
    bucket.close();
  });

  it("that was never completed goes when it is chosen, however many there are", async () => {
    const bucket = open();
    const credentials = { accessKeyId: storage.keyId, secretAccessKey: storage.secret };
    const client = new S3Client({ endpoint: storage.url, region: "us-east-1", forcePathStyle: true, credentials });
    for (const key of ["a", "b", "c", "d", "kept"])
      await client.send(new CreateMultipartUploadCommand({ Bucket: BUCKET, Key: `some/where/${key}` }));
    expect(await bucket.abandonUploads((key) => key !== "kept")).toBe(4);
    expect([...storage.uploads.values()]).toEqual(["some/where/kept"]);
    expect(await bucket.abandonUploads(() => true)).toBe(1);
    client.destroy();
    bucket.close();
  });

  it("whose source fails, or that is aborted, leaves nothing", async () => {
    const bucket = open();
    async function* broken(): AsyncGenerator<Buffer> {
      yield* pieces(bytesOf(6 * MIB));
      throw new Error("the disk is broken");
    }
    await expect(bucket.put("broken", Readable.from(broken()))).rejects.toThrow("the disk is broken");
    const abort = new AbortController();
    let stalled = 0;
    meet(Infinity, (request) => isPart(request) && (stalled += 1) > 0, "stall");
    const aborted = bucket.put("aborted", Readable.from(pieces(bytesOf(16 * MIB))), { signal: abort.signal });
    await expect.poll(() => stalled).toBeGreaterThan(0);
    abort.abort();
    await expect(aborted).rejects.toMatchObject({ name: "AbortError" });
    storage.heal();
    expect([await bucket.list(), storage.uploads.size]).toEqual([[], 0]);
    bucket.close();
  });
});

describe.skipIf(!hasServer("swift"))("[M13] a storage that checks signatures", () => {
  beforeAll(async () => {
    storage = await startStorage("swift");
  });
  afterAll(() => storage?.close());

  it.each<[string, Partial<BucketOptions>, RegExp]>([
    ["a secret that is not the key's", { secret: "another" }, /does not accept the key \(SignatureDoesNotMatch\)/],
    ["a key that it does not know", { keyId: "slipway:nobody" }, /does not accept the key.*SLIPWAY_S3_ACCESS_KEY_ID/],
    ["another region", { region: "eu-central-1" }, /is in another region. Set SLIPWAY_S3_REGION/],
    [
      "a bucket that is not there",
      { address: { bucket: "slipway-nowhere", prefix: "" } },
      /no bucket slipway-nowhere.*Create it/,
    ],
  ])("refuses %s, and the error says what to correct", async (_, more, words) => {
    const bucket = open(more);
    const calls = [() => bucket.putText("x", "x"), () => bucket.list(), () => bucket.get("x")];
    for (const call of calls)
      await expect(call()).rejects.toMatchObject({ code: "storage_refused", message: expect.stringMatching(words) });
    bucket.close();
    const right = open();
    expect(await right.list()).toEqual([]);
    right.close();
  });
});
