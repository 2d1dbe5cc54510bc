/**
 * Small images built from files of Slipway's own image, so that tests download nothing; and a local
 * registry that serves one of them.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { dockerClient } from "./engine.ts";

const BINARIES =
  "/bin/bash /bin/sh /bin/cat /bin/grep /bin/ls /bin/mkdir /bin/rm /bin/sleep /bin/touch /bin/uname /usr/bin/env /usr/bin/git /usr/bin/id /usr/bin/stat /usr/bin/whoami /usr/lib/git-core/git /usr/lib/git-core/git-remote-http";
const STAGE = `set -e
mkdir /tmp/r; cd /tmp/r
files="${BINARIES}"
libs=$(for one in $files /usr/local/bin/node; do ldd $one; done | grep -o '/[^ ]*' | sort -u)
tar -C / -ch --hard-dereference $files $libs 2>/dev/null | tar -x
mkdir -p etc tmp root
echo root:x:0:0:root:/root:/bin/bash > etc/passwd
echo root:x:0: > etc/group
`;

/**
 * A file system with git, bash and a C library, as a tar.
 * @param own Slipway's own image. @param change a shell script that runs at the root of it before
 * it is packed.
 */
export function rootfs(own: string, change = ""): Buffer {
  const args = [
    "run",
    "--rm",
    "--network",
    "none",
    "--user",
    "0",
    "--entrypoint",
    "bash",
    own,
    "-c",
    `${STAGE}${change}\ntar -c .`,
  ];
  return execFileSync("docker", args, { maxBuffer: 256 * 2 ** 20, stdio: ["ignore", "pipe", "pipe"] });
}

/** Imports the tar as an image. @param changes Dockerfile instructions. */
export function importImage(name: string, files: Buffer, changes: readonly string[] = []): void {
  const flags = changes.flatMap((change) => ["--change", change]);
  execFileSync("docker", ["import", ...flags, "-", name], { input: files, stdio: ["pipe", "ignore", "pipe"] });
}

export async function dropImage(name: string): Promise<void> {
  await dockerClient()
    .getImage(name)
    .remove({ force: true })
    .catch(() => undefined);
}

export interface Registry {
  /** `127.0.0.1:port`. */
  readonly host: string;
  /** All requests, as `METHOD path`. */
  readonly asked: readonly string[];
  /** What every request is answered with instead, until it is null again. */
  failure: { status: number; body: string } | null;
  close(): Promise<void>;
}

const MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
const PIECE = 256 * 1024;
const toDigest = (bytes: Buffer): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

/**
 * A registry without TLS, as the engine allows it on loopback. It serves one image under any name,
 * in pieces, so that a pull takes a while.
 */
export async function startRegistry(
  files: Buffer,
  config: object = {},
  gapMs = 20,
  architecture = "amd64",
): Promise<Registry> {
  const image = Buffer.from(
    JSON.stringify({
      architecture,
      os: "linux",
      config,
      rootfs: { type: "layers", diff_ids: [toDigest(files)] },
      history: [],
    }),
  );
  const layer = {
    mediaType: "application/vnd.docker.image.rootfs.diff.tar",
    size: files.length,
    digest: toDigest(files),
  };
  const own = {
    mediaType: "application/vnd.docker.container.image.v1+json",
    size: image.length,
    digest: toDigest(image),
  };
  const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, config: own, layers: [layer] }));
  const blobs = new Map([
    [layer.digest, files],
    [own.digest, image],
  ]);
  const asked: string[] = [];

  async function send(response: ServerResponse, bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length && !response.destroyed; at += PIECE) {
      response.write(bytes.subarray(at, at + PIECE));
      await delay(gapMs);
    }
    response.end();
  }

  const registry = { failure: null as Registry["failure"] };
  const server = createServer((request, response) => {
    const path = request.url ?? "/";
    asked.push(`${request.method} ${path}`);
    if (registry.failure !== null) {
      response.writeHead(registry.failure.status, { "content-type": "application/json" }).end(registry.failure.body);
      return;
    }
    if (path === "/v2/") return void response.writeHead(200).end("{}");
    const blob = blobs.get(/\/blobs\/(sha256:[0-9a-f]{64})$/.exec(path)?.[1] ?? "");
    const body = /\/manifests\//.test(path) ? manifest : blob;
    if (body === undefined)
      return void response.writeHead(404).end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}');
    const type = blob === undefined ? MANIFEST : "application/octet-stream";
    response.writeHead(200, {
      "content-type": type,
      "content-length": body.length,
      "docker-content-digest": toDigest(body),
    });
    if (request.method === "HEAD") return void response.end();
    void send(response, body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return Object.assign(registry, {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    async close() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  });
}
