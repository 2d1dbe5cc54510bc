/**
 * A task in a container installs packages from a registry on the operator's list, and from no other
 * host. The test runs its own small registry.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { deriveInstanceId } from "../../../src/core/lib/runtime/instance-id.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { describeWithDocker } from "../../support/docker/engine.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { disksDir, removeRemains } from "../../support/docker/cleanup.ts";
import { eventually, ROOT, startServer, type RealServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(3);

/** A package with a native binding, and the package with the binding for this machine. */
const PACKAGES = [
  "@node-rs/argon2",
  ...readdirSync(join(ROOT, "node_modules/@node-rs")).map((name) => `@node-rs/${name}`),
];

interface Packed {
  readonly name: string;
  readonly version: string;
  readonly file: string;
  readonly integrity: string;
  readonly manifest: Record<string, unknown>;
}

/** The package's tarball, packed from the installed one. */
function pack(name: string, dir: string): Packed {
  const source = join(ROOT, "node_modules", name);
  const [{ filename }] = JSON.parse(
    execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", dir, source], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }),
  ) as [{ filename: string }];
  const file = join(dir, filename);
  const manifest = JSON.parse(readFileSync(join(source, "package.json"), "utf8")) as Record<string, unknown> & {
    version: string;
  };
  const integrity = `sha512-${createHash("sha512").update(readFileSync(file)).digest("base64")}`;
  return { name, version: manifest.version, file, integrity, manifest };
}

/** A registry of these packages; `asked` are the requested paths. */
async function startRegistry(packed: readonly Packed[]): Promise<{ server: Server; port: number; asked: string[] }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? "");
    asked.push(path);
    const tarball = packed.find(({ file }) => path === `/tarballs/${file.split("/").at(-1)}`);
    if (tarball !== undefined) return void response.end(readFileSync(tarball.file));
    const found = packed.find(({ name }) => path === `/${name}`);
    if (found === undefined) return void response.writeHead(404).end("{}");
    const dist = {
      integrity: found.integrity,
      tarball: `http://${request.headers.host}/tarballs/${found.file.split("/").at(-1)}`,
    };
    // `npm ci` requires every named package, and this registry lacks bindings for other machines.
    const named = Object.entries((found.manifest["optionalDependencies"] ?? {}) as Record<string, string>);
    const optionalDependencies = Object.fromEntries(
      named.filter(([other]) => packed.some(({ name }) => name === other)),
    );
    const version = { ...found.manifest, optionalDependencies, dist };
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify({
        name: found.name,
        "dist-tags": { latest: found.version },
        versions: { [found.version]: version },
      }),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, port: (server.address() as AddressInfo).port, asked };
}

/** npm takes its time on a busy machine. */
const LIMIT = { timeout: 600_000 };

describeWithDocker("[S5] a task that installs packages in a container", () => {
  let dir: string;
  let upstream: GitServer;
  let registry: Awaited<ReturnType<typeof startRegistry>>;
  let server: RealServer;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "slipway-egress-"));
    upstream = await startGitServer();
    registry = await startRegistry(
      PACKAGES.filter((name) => existsSync(join(ROOT, "node_modules", name))).map((name) => pack(name, dir)),
    );
    const env = {
      SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
      SLIPWAY_TRUSTED_EGRESS_HOSTS: `localhost:${registry.port}`,
    };
    server = await startServer({ dataDir: join(dir, "data"), sandbox: "docker", env });
    // The list stays for all tests, each of which a quick run may choose alone.
    const listed = await server.call("POST", "/v1/ops/egress", { allow: [`localhost:${registry.port}`] });
    expect(listed.status).toBe(200);
  });
  afterAll(async () => {
    await server?.kill("SIGTERM");
    registry?.server.closeAllConnections();
    registry?.server.close();
    await upstream?.close();
    await removeRemains(deriveInstanceId(join(dir, "data")), disksDir(join(dir, "data")));
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  });

  let repositories = 0;
  async function run(
    script: readonly object[],
    egress: string,
    files: Readonly<Record<string, string>> = {},
  ): Promise<{ task: WireTask; events: WireEvent[] }> {
    const repo = upstream.createRepo(`app-${(repositories += 1)}`, { ".gitignore": "node_modules\n", ...files });
    const { status, body } = await server.call("POST", "/v1/tasks", {
      repo: repo.url,
      prompt: "Install.",
      script,
      egress,
    });
    expect(status, JSON.stringify(body)).toBe(201);
    const { id } = body as WireTask;
    const task = await eventually(
      async () => ((await server.task(id)).settledAt === null ? null : await server.task(id)),
      `${id} settles`,
      LIMIT.timeout,
    );
    return { task, events: await server.events(id) };
  }
  const outputs = (events: readonly WireEvent[]): string =>
    events
      .filter(({ type }) => type === "tool.finished")
      .map(({ data }) => String(data["output"]))
      .join("\n");
  const notices = (events: readonly WireEvent[]): string[] =>
    events.flatMap(({ type, data }) =>
      type === "notice" && data["code"] === "egress_refused" ? [String(data["text"])] : [],
    );
  // The registry's host is localhost, for which programs bypass a proxy by default.
  const env =
    "export NO_PROXY= no_proxy= npm_config_noproxy= npm_config_cache=/tmp/npm npm_config_update_notifier=false";
  const install = (port: number): object => ({
    bash: `${env}; npm init -y >/dev/null && npm install --registry http://localhost:${port} --replace-registry-host=never @node-rs/argon2 2>&1 | tail -5; rm -rf node_modules; npm ci --registry http://localhost:${port} 2>&1 | tail -5; node -e 'require("@node-rs/argon2").hash("x").then((h) => console.log("native", h.slice(0, 9)))'`,
    timeoutMs: 600_000,
  });

  it(
    "npm ci with a native binding works from a listed registry; what is not listed is refused and told",
    LIMIT,
    async () => {
      const place = `localhost:${registry.port}`;
      const curl = `${env}; node -e 'fetch("http://evil.example/").catch((e) => console.log("failed"))'; git ls-remote https://evil.example/x.git 2>&1 | tail -1`;
      const { task, events } = await run(
        [install(registry.port), { bash: curl }, { finish: { title: "Installed", summary: "" } }],
        "allowlist",
      );
      expect(outputs(events)).toMatch(/native \$argon2id/);
      expect(outputs(events)).toMatch(/403/);
      expect(task.state).toBe("done");
      expect(registry.asked.some((path) => path.startsWith("/tarballs/"))).toBe(true);
      expect(
        notices(events).some(
          (text) => text.includes("evil.example:443") && text.includes("slipway egress allow evil.example:443"),
        ),
      ).toBe(true);
      expect(notices(events).some((text) => text.includes(place))).toBe(false);
    },
  );

  it("with egress none the same registry is not reached, and the notice says what to do", LIMIT, async () => {
    const before = registry.asked.length;
    const script = [
      {
        bash: `${env}; npm view @node-rs/argon2 version --registry http://localhost:${registry.port} --fetch-retries 0 2>&1 | tail -3`,
      },
    ];
    const { events } = await run([...script, { finish: { title: "Nothing", summary: "" } }], "none");
    expect(registry.asked).toHaveLength(before);
    expect(notices(events)[0]).toMatch(/--egress allowlist/);
  });

  it(
    "the setup installs from the registry although the task has egress none; the agent has what it made, and no way out",
    LIMIT,
    async () => {
      const at = `--registry http://localhost:${registry.port} --replace-registry-host=never`;
      const setup = [`${env}; npm init -y >/dev/null && npm install ${at} @node-rs/argon2 2>&1 | tail -3`];
      const ask = `${env}; npm view @node-rs/argon2 version ${at} --fetch-retries 0 2>&1 | tail -3`;
      const use = `node -e 'require("@node-rs/argon2").hash("x").then((h) => console.log("native", h.slice(0, 9)))'`;
      const { task, events } = await run(
        [{ bash: use }, { bash: ask }, { finish: { title: "Used", summary: "" } }],
        "none",
        { ".slipway.yml": JSON.stringify({ setup }) },
      );
      expect(task.state).toBe("done");
      expect(outputs(events)).toMatch(/native \$argon2id/);
      expect(notices(events)).toContainEqual(expect.stringContaining(`localhost:${registry.port}`));
      const steps = events.filter(({ type, data }) => type === "task.step" && data["name"] === "setup");
      expect(steps[0]?.data["detail"]).toBe("egress allowlist");
      const codes = events.map(({ data }) => data["code"]);
      expect(codes.indexOf("egress_phase")).toBeLessThan(codes.indexOf("egress_refused"));
    },
  );
});
