/**
 * The S3-compatible servers of the tests. s3rver is a package; it checks no signatures of version
 * 4, and can neither list nor abort uploads. OpenStack Swift (Debian: python3-swift) is another
 * implementation, which does all of it, and which people rent.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";

export const SERVERS = ["s3rver", "swift"] as const;
export type ServerName = (typeof SERVERS)[number];

export interface StorageServer {
  readonly port: number;
  readonly keyId: string;
  readonly secret: string;
  /** Lists and aborts uploads itself. */
  readonly hasUploads: boolean;
  close(): Promise<void>;
}

/** The packages of Debian belong to its own Python. */
const PYTHON = "/usr/bin/python3";
const s3rver = await import("s3rver").catch(() => null);
const hasSwift = spawnSync(PYTHON, ["-c", "import swift"], { stdio: "ignore" }).status === 0;

/** False where it is not installed; in CI it must be. */
export function hasServer(name: ServerName): boolean {
  if (process.env["SLIPWAY_REQUIRE_ENGINES"] === "1") return true;
  return name === "swift" ? hasSwift : s3rver !== null;
}

export async function startServer(name: ServerName, bucket: string): Promise<StorageServer> {
  const directory = mkdtempSync(join(tmpdir(), "slipway-s3-"));
  const remove = (): void => rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  return name === "swift" ? await startSwift(directory, bucket, remove) : await startS3rver(directory, bucket, remove);
}

async function startS3rver(directory: string, bucket: string, remove: () => void): Promise<StorageServer> {
  if (s3rver === null) throw new Error("s3rver does not load: npm ci");
  const configureBuckets = [{ name: bucket }];
  const real = new s3rver.default({ address: "127.0.0.1", port: 0, silent: true, directory, configureBuckets });
  const { port } = await real.run();
  const close = async (): Promise<void> => {
    await real.close();
    remove();
  };
  return { port, keyId: "S3RVER", secret: "S3RVER", hasUploads: false, close };
}

async function startSwift(directory: string, bucket: string, remove: () => void): Promise<StorageServer> {
  if (!hasSwift) throw new Error("Swift is not installed: apt-get install python3-swift");
  const [keyId, secret] = ["slipway:tester", "secret-of-swift-7b0e"];
  const program = join(import.meta.dirname, "swift-server.py");
  const child = spawn(PYTHON, [program, directory, keyId, secret], { stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-10_000)));
  const ended = once(child, "close");
  const listening = once(child.stdout, "data") as Promise<[Buffer]>;
  const first = await Promise.race([listening, ended.then(() => null)]);
  if (first === null) throw new Error(`Swift ended before it served:\n${said}`);
  const port = Number(first[0].toString());
  const client = new S3Client({
    endpoint: `http://127.0.0.1:${port}`,
    region: "us-east-1",
    forcePathStyle: true,
    credentials: { accessKeyId: keyId, secretAccessKey: secret },
  });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  client.destroy();
  const close = async (): Promise<void> => {
    child.stdin.end();
    await ended;
    remove();
  };
  return { port, keyId, secret, hasUploads: true, close };
}
