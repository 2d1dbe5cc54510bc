/**
 * A small git smart-HTTP server: the upstream of the demo and of the tests. Plain Node, `git
 * http-backend` behind it.
 *
 * As a module: `startGitServer({ root, auth?, port? })`. As a program: `node scripts/git-server.mjs
 * ROOT [--port N] [--repo NAME] [--user U --password P]`.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync, chmodSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { timingSafeEqual } from "node:crypto";
import { fileURLToPath } from "node:url";
import { createGunzip } from "node:zlib";

const ENV = {
  PATH: process.env.PATH,
  HOME: "/nonexistent",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_AUTHOR_NAME: "Upstream",
  GIT_AUTHOR_EMAIL: "upstream@example.com",
  GIT_COMMITTER_NAME: "Upstream",
  GIT_COMMITTER_EMAIL: "upstream@example.com",
  LC_ALL: "C",
};

function git(cwd, ...args) {
  return execFileSync("git", args, { cwd, env: ENV, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
}

/**
 * @param {{ root: string, port?: number, auth?: { username: string, password: string, readOnly?:
 * boolean } | null }} options
 */
export async function startGitServer({ root, port = 0, auth = null }) {
  mkdirSync(root, { recursive: true });
  /** Answers in place of git's, by repository name: { status?, hang?, on?: "fetch" | "push" }. */
  const refusals = new Map();
  /** How packs are sent, by repository name: { bytesPerSecond?, cutAfter? }. */
  const shapes = new Map();
  const requests = [];
  const children = new Set();

  function authorised(request) {
    if (auth === null) return true;
    const [kind, value] = (request.headers.authorization ?? "").split(" ");
    if (kind?.toLowerCase() !== "basic" || value === undefined) return false;
    const given = Buffer.from(value, "base64");
    const wanted = Buffer.from(`${auth.username}:${auth.password}`);
    return given.length === wanted.length && timingSafeEqual(given, wanted);
  }

  function answer(response, status, text, headers = {}) {
    response.writeHead(status, { "content-type": "text/plain", ...headers });
    response.end(`${text}\n`);
  }

  /** Commits the files to the branch, from `start` or from the default branch. @returns the SHA */
  function commit(name, branch, start, files, message) {
    const bare = join(root, `${name}.git`);
    const work = mkdtempSync(join(tmpdir(), "slipway-upstream-"));
    try {
      git(work, "clone", "-q", bare, ".");
      git(work, "checkout", "-q", "-B", branch, ...(start === null ? [] : [start]));
      for (const [path, content] of Object.entries(files)) {
        mkdirSync(dirname(join(work, path)), { recursive: true });
        writeFileSync(join(work, path), content);
      }
      git(work, "add", "-A");
      git(work, "commit", "-q", "--allow-empty", "-m", message);
      git(work, "push", "-q", "--force", "origin", `HEAD:refs/heads/${branch}`);
      return git(work, "rev-parse", "HEAD");
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }

  function serve(request, response) {
    const url = new URL(request.url ?? "/", "http://localhost");
    const found = /^\/((?:[\w-]+\/)?[\w.-]+)\.git\/(info\/refs|git-upload-pack|git-receive-pack)$/.exec(url.pathname);
    const push = url.searchParams.get("service") === "git-receive-pack" || url.pathname.endsWith("git-receive-pack");
    const seen = {
      method: request.method,
      path: request.url,
      authorization: request.headers.authorization ?? null,
      sent: 0,
    };
    requests.push(seen);
    if (!authorised(request))
      return answer(response, 401, "Authentication required", { "www-authenticate": 'Basic realm="git"' });
    if (found === null || !existsSync(join(root, `${found[1]}.git`)))
      return answer(response, 404, "Repository not found");
    if (push && auth?.readOnly) return answer(response, 403, "Permission denied: read only");
    const refusal = refusals.get(found[1]);
    if (refusal !== undefined && (refusal.on === undefined || (refusal.on === "push") === push)) {
      if (refusal.hang) return;
      return answer(response, refusal.status, refusal.text ?? "refused", refusal.headers);
    }
    backend(request, response, url, seen, shapes.get(found[1]) ?? {});
  }

  function backend(request, response, url, seen, { bytesPerSecond = Infinity, cutAfter = Infinity }) {
    const startedAt = Date.now();
    const child = spawn("git", ["http-backend"], {
      env: {
        ...ENV,
        GIT_PROJECT_ROOT: root,
        GIT_HTTP_EXPORT_ALL: "1",
        PATH_INFO: url.pathname,
        QUERY_STRING: url.search.slice(1),
        REQUEST_METHOD: request.method,
        CONTENT_TYPE: request.headers["content-type"] ?? "",
        REMOTE_USER: "upstream",
        ...(request.headers["git-protocol"] ? { GIT_PROTOCOL: request.headers["git-protocol"] } : {}),
      },
      stdio: ["pipe", "pipe", "ignore"],
    });
    children.add(child);
    child.once("exit", () => children.delete(child));
    const body = request.headers["content-encoding"] === "gzip" ? request.pipe(createGunzip()) : request;
    body.pipe(child.stdin);
    child.stdin.on("error", () => {});
    body.on("error", () => child.kill());
    response.on("close", () => child.exitCode === null && child.kill());
    let head = Buffer.alloc(0);
    let begun = false;
    child.stdout.on("data", (chunk) => {
      seen.sent += chunk.length;
      if (seen.sent > cutAfter) return void response.destroy();
      const early = startedAt + (seen.sent / bytesPerSecond) * 1_000 - Date.now();
      if (early > 0) {
        child.stdout.pause();
        setTimeout(() => child.stdout.resume(), early);
      }
      if (begun) return void response.write(chunk);
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf("\r\n\r\n");
      if (end < 0) return;
      begun = true;
      let status = 200;
      for (const line of head.subarray(0, end).toString("latin1").split("\r\n")) {
        const [name, ...rest] = line.split(": ");
        if (name.toLowerCase() === "status") status = Number.parseInt(rest.join(": "), 10);
        else response.setHeader(name, rest.join(": "));
      }
      response.writeHead(status);
      response.write(head.subarray(end + 4));
    });
    child.stdout.on("end", () => (begun ? response.end() : answer(response, 500, "git failed")));
  }

  const server = createServer(serve);
  await new Promise((done, failed) => server.once("error", failed).listen(port, "127.0.0.1", done));
  const url = `http://127.0.0.1:${server.address().port}`;

  return {
    url,
    host: new URL(url).host,
    root,
    requests,
    /** Makes a repository with one commit on `main`; returns its address and that commit. */
    createRepo(name, files = { "README.md": `# ${name}\n` }) {
      const bare = join(root, `${name}.git`);
      const work = mkdtempSync(join(tmpdir(), "slipway-upstream-"));
      try {
        git(work, "init", "-q", "-b", "main");
        for (const [path, content] of Object.entries(files)) {
          mkdirSync(dirname(join(work, path)), { recursive: true });
          writeFileSync(join(work, path), content);
        }
        git(work, "add", "-A");
        git(work, "commit", "-q", "-m", "First commit");
        git(work, "clone", "-q", "--bare", work, bare);
        git(bare, "config", "http.receivepack", "true");
        git(bare, "config", "uploadpack.allowFilter", "true");
        return { url: `${url}/${name}.git`, path: bare, sha: git(work, "rev-parse", "HEAD") };
      } finally {
        rmSync(work, { recursive: true, force: true });
      }
    },
    /** A new commit on a branch of the upstream, as another person would make it. */
    commit(name, branch, files, message = "Another commit") {
      return commit(name, branch, null, files, message);
    },
    /** A commit on top of the branch. @returns its SHA */
    commitOn(name, branch, files, message = "One more commit") {
      return commit(name, branch, `origin/${branch}`, files, message);
    },
    /** Runs git in the bare repository. */
    git: (name, ...args) => git(join(root, `${name}.git`), ...args),
    /** A hook of the repository, as shell text. */
    hook(name, hook, script) {
      const file = join(root, `${name}.git`, "hooks", hook);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, `#!/bin/sh\n${script}\n`);
      chmodSync(file, 0o755);
    },
    /** Sets the answer that replaces git's; null removes it. */
    refuse(name, refusal) {
      if (refusal === null) refusals.delete(name);
      else refusals.set(name, refusal);
    },
    /** Sends every answer at this rate, or cuts it after a number of bytes; null ends that. */
    shape(name, shape) {
      if (shape === null) shapes.delete(name);
      else shapes.set(name, shape);
    },
    async close() {
      server.closeAllConnections();
      for (const child of children) child.kill();
      await new Promise((done) => server.close(done));
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [root, ...rest] = process.argv.slice(2);
  const option = (name) => (rest.includes(name) ? rest[rest.indexOf(name) + 1] : undefined);
  if (root === undefined) {
    console.error("usage: node scripts/git-server.mjs ROOT [--port N] [--repo NAME] [--user U --password P]");
    process.exit(2);
  }
  const auth = option("--user") ? { username: option("--user"), password: option("--password") ?? "" } : null;
  const server = await startGitServer({ root, port: Number(option("--port") ?? 0), auth });
  const repo = option("--repo");
  if (repo !== undefined) server.createRepo(repo);
  console.log(`git-server: listening on ${server.url}`);
}
