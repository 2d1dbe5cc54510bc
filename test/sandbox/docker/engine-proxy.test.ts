/**
 * The proxy of docs/deploy between Slipway and the engine. Here the engine is a server that records
 * what reaches it; test/scenarios/deploy runs tasks through the proxy on a real one.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, request, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import Docker from "dockerode";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createContainerSpec, type ContainerDefaults } from "../../../src/sandbox/docker/container-spec.ts";
import { openEngine, type Engine } from "../../../src/sandbox/docker/engine.ts";
import { seccompProfile } from "../../../src/sandbox/docker/hardening/seccomp.ts";
import { overrideImageSettings } from "../../../src/sandbox/docker/image/image-overrides.ts";
import { probeImage } from "../../../src/sandbox/docker/image/image-probe.ts";
import { addWorkerLayer } from "../../../src/sandbox/docker/image/worker-layer.ts";
import { createEngineProxy } from "../../../src/sandbox/docker/proxy/proxy.ts";

const INSTANCE = "0123456789ab";
const SOCKETS = "/srv/slipway/run";
const OWN = "0".repeat(64);
const [FOREIGN_LABELS, OWN_LABELS] = [{ "slipway.instance": "another" }, { "slipway.instance": INSTANCE }];

interface Received {
  readonly method: string;
  readonly url: string;
  readonly type: string | undefined;
  readonly body: string;
}

/** `own` has the installation's label, `gone` does not exist, everything else is foreign. */
function answerLookUp(url: string): [status: number, answer: object] | null {
  const [, kind, name = ""] = /^\/(containers|volumes|networks)\/([^/?]+)(?:\/json)?$/.exec(url) ?? [];
  if (kind === undefined || name === "json" || name === "create") return null;
  if (name === "gone") return [404, { message: "no such thing" }];
  const labels = name === "own" || name === OWN ? OWN_LABELS : FOREIGN_LABELS;
  if (kind === "containers") return [200, { Id: OWN, Config: { Labels: labels } }];
  return [200, kind === "volumes" ? { Name: name, Labels: labels } : { Id: OWN, Labels: labels }];
}

const listen = (server: Server, path: string): Promise<void> =>
  new Promise((resolve) => void server.listen(path, resolve));

let dir: string;
let received: Received[] = [];
let refusals: string[] = [];
let servers: Server[];
let docker: Docker;
let engine: Engine;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-ep-"));
  const [below, above] = [join(dir, "engine.sock"), join(dir, "proxy.sock")];
  const real = createServer({ maxHeaderSize: 2 ** 20 }, (incoming, response) => {
    void text(incoming).then((body) => {
      const { method = "", url = "" } = incoming;
      const found = method === "GET" ? answerLookUp(url) : null;
      if (found === null) received.push({ method, url, type: incoming.headers["content-type"], body });
      if ((method === "DELETE" && !url.startsWith("/images")) || /\/(?:start|kill|rename)(?:\?|$)/.test(url))
        return response.writeHead(204).end();
      const [status, answer] = found ?? [200, method === "POST" ? { Id: OWN, StatusCode: 0 } : {}];
      return response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
    });
  });
  const report = (refusal: string): void => void refusals.push(refusal);
  const proxy = createEngineProxy({ engine: below, instance: INSTANCE, sockets: SOCKETS, report });
  servers = [real, proxy];
  await listen(real, below);
  await listen(proxy, above);
  docker = new Docker({ socketPath: above });
  engine = openEngine({ docker: { socketPath: above } });
});
afterAll(() => {
  for (const server of servers) server.close();
  rmSync(dir, { recursive: true, force: true });
});
beforeEach(() => {
  received = [];
  refusals = [];
});

async function send(method: string, path: string, body?: unknown, headers: object = {}): Promise<number> {
  return await new Promise((resolve, reject) => {
    const sent = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
    const type = sent === undefined ? {} : { "content-type": "application/json" };
    request({ socketPath: join(dir, "proxy.sock"), method, path, headers: { ...type, ...headers } }, (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    })
      .on("error", reject)
      .end(sent);
  });
}

const defaults: ContainerDefaults = {
  image: "slipway-worker:x",
  instance: INSTANCE,
  memoryMb: 512,
  cpus: 1,
  pids: 64,
  seccomp: seccompProfile(),
  socketDir: `${SOCKETS}/task_1-a1`,
  workspace: { kind: "watch", sizeMb: 64 },
};
const spec = { name: "slipway-task_1-a1", taskId: "task_1", attempt: 1, socketDir: "/x", token: "t", limits: {} };
const created = (): Docker.ContainerCreateOptions => createContainerSpec(spec, defaults);
const image = {
  Id: `sha256:${OWN}`,
  Config: { Env: ["NODE_OPTIONS=--x", "PATH=/bin"], Volumes: { "/data": {} } },
} as unknown as Docker.ImageInspectInfo;

/** The description of a worker, changed. */
function changed(host: object, top: object = {}): object {
  const { HostConfig, ...rest } = created();
  return { ...rest, HostConfig: { ...HostConfig, ...host }, ...top };
}
const bind = (Source: string, more: object = {}): object => ({
  Mounts: [{ Type: "bind", Source, Target: "/run/slipway", ReadOnly: true, ...more }],
});
const volume = (Options: object, Source = "slipway-x"): object => ({
  Mounts: [
    {
      Type: "volume",
      Source,
      Target: "/workspace",
      VolumeOptions: {
        NoCopy: false,
        Labels: { "slipway.instance": INSTANCE, "slipway.disk": "1" },
        DriverConfig: { Name: "local", Options },
      },
    },
  ],
});

const DESCRIPTIONS: readonly (readonly [string, object | string])[] = [
  ["nothing of a worker", { Image: "none" }],
  ["privileged", changed({ Privileged: true })],
  ["privileged, in another spelling", changed({ privileged: true })],
  ["a folder of the machine", changed({ Binds: ["/:/host"] })],
  // The engine folds the long s to an s.
  ["a folder of the machine, in another alphabet", changed({ Bindſ: ["/:/host"] })],
  ["a mount of the machine's root", changed(bind("/"))],
  ["a mount of the engine's socket", changed(bind("/var/run/docker.sock"))],
  ["a mount above the sockets", changed(bind(`${SOCKETS}/..`))],
  ["a mount that can be written", changed(bind(`${SOCKETS}/x`, { ReadOnly: false }))],
  ["a volume with a folder behind it", changed(volume({ type: "none", o: "bind", device: "/" }))],
  ["somebody else's volume", changed(volume({}, "srv_engine"))],
  ["capabilities", changed({ CapAdd: ["SYS_ADMIN"] })],
  ["the capabilities of an engine's default", changed({ CapDrop: [] })],
  ["devices", changed({ Devices: [{ PathOnHost: "/dev/sda" }] })],
  ["the machine's network", changed({ NetworkMode: "host" })],
  ["the engine's network", changed({ NetworkMode: undefined })],
  ["the machine's processes", changed({ PidMode: "host" })],
  ["the machine's memory", changed({ IpcMode: "host" })],
  ["no limit of memory", changed({ Memory: 0 })],
  ["no seccomp", changed({ SecurityOpt: ["no-new-privileges:true", "seccomp=unconfined"] })],
  ["new privileges", changed({ SecurityOpt: [] })],
  ["root", changed({}, { User: "0" })],
  ["another installation's label", changed({}, { Labels: { "slipway.instance": "another" } })],
  ["a label of somebody else", changed({}, { Labels: { ...OWN_LABELS, "com.docker.compose.project": "srv" } })],
  ["a network", changed({}, { NetworkingConfig: { EndpointsConfig: { bridge: {} } } })],
  ["no JSON", "Privileged"],
];

const CALLS: readonly (readonly [string, string, unknown?, object?])[] = [
  ["POST", "/containers/own/exec", { Cmd: ["sh"], Privileged: true }],
  ["POST", "/exec/own/start", {}],
  ["POST", "/containers/own/attach"],
  ["POST", "/containers/own/update", {}],
  ["GET", "/containers/own/export"],
  ["POST", "/containers/prune"],
  ["POST", "/volumes/create", {}],
  ["POST", "/networks/create", { Name: "x" }],
  ["POST", "/build?networkmode=host&t=slipway-worker:x"],
  ["POST", "/build?%6eetworkmode=host"],
  ["POST", "/build?t=slipway-worker:x;networkmode=host"],
  ["POST", "/build?remote=http://example.org"],
  ["POST", "/build?t=slipway:latest"],
  ["POST", "/images/none/tag?repo=slipway&tag=latest"],
  ["POST", "/images/create?fromSrc=-&repo=slipway"],
  ["POST", `/commit?container=own&repo=slipway`, { Labels: {} }],
  ["DELETE", "/images/slipway:latest"],
  ["GET", "/secrets"],
  ["GET", "/containers/own/../../secrets"],
  ["GET", "/containers/%6fwn/json"],
  ["GET", "//info"],
  // Engines before 25 take a whole description in the body of an old version's start.
  ["POST", "/v1.23/containers/own/start", { Privileged: true }],
  ["POST", "/swarm/init", {}],
  ["POST", "/plugins/pull"],
  // What is not this installation's.
  ["GET", "/containers/foreign/json"],
  ["GET", "/containers/foreign/archive?path=/"],
  ["PUT", "/containers/foreign/archive?path=/", "x"],
  ["POST", "/containers/foreign/start"],
  ["POST", "/containers/foreign/kill?signal=SIGKILL"],
  ["DELETE", "/containers/foreign?force=true"],
  ["POST", "/commit?container=foreign", { Labels: {} }],
  ["DELETE", "/volumes/foreign"],
  ["DELETE", "/networks/foreign"],
  ["POST", "/containers/own/rename?name=foreign"],
];

describe("the proxy in front of the engine", () => {
  it.each(DESCRIPTIONS)("[S16] refuses a container with %s", async (_name, body) => {
    expect(await send("POST", "/containers/create", body)).toBe(403);
    expect(received).toEqual([]);
    expect(refusals).toHaveLength(1);
  });

  it("[S16] refuses every call that Slipway does not make, and those about what is not its own", async () => {
    const passed: string[] = [];
    for (const [method, path, body, headers] of CALLS)
      if ((await send(method, path, body, headers)) !== 403) passed.push(`${method} ${path}`);
    expect(passed).toEqual([]);
    expect(received).toEqual([]);
    expect(refusals).toHaveLength(CALLS.length);
  });

  it("[S16] a body cannot be larger than what Slipway sends", async () => {
    expect(await send("POST", "/containers/create", changed({}, { Env: ["x".repeat(2 ** 21)] }))).toBe(403);
    expect(received).toEqual([]);
  });

  it("[S16] passes the containers that Slipway creates, as they are", async () => {
    const onImage = overrideImageSettings(created(), image);
    const tmpfs = createContainerSpec(spec, { ...defaults, seccomp: null, workspace: { kind: "tmpfs", sizeMb: 64 } });
    for (const body of [created(), onImage, tmpfs]) await docker.createContainer(body);
    const bodies = received.map(({ body }) => JSON.parse(body) as unknown);
    expect(bodies).toEqual([created(), onImage, tmpfs].map((body) => JSON.parse(JSON.stringify(body)) as unknown));
    expect(new Set(received.map(({ method, url }) => `${method} ${url}`))).toEqual(
      new Set([`POST /containers/create?name=${spec.name}`]),
    );
  });

  it("[S16] passes the steps that make a derived image, and the trial of it", async () => {
    const labels = { "slipway.from": "a", "slipway.base": "b", "slipway.worker": "c" };
    // The recording engine has no archives, so the steps end early; none of them is refused.
    await addWorkerLayer({ engine, instance: INSTANCE, base: image, worker: image, labels }).catch(() => undefined);
    await probeImage(engine, image, "a", { instance: INSTANCE, seccomp: null }).catch(() => undefined);
    await docker.getContainer("own").commit({ _query: { container: "own", pause: false }, _body: { Labels: labels } });
    await docker.getImage(image.Id).tag({ repo: "slipway-derived", tag: "x" });
    await docker.getImage("slipway-derived:x").remove({ noprune: true });
    expect(refusals).toEqual([]);
    expect(received.filter(({ url }) => url.startsWith("/containers/create"))).toHaveLength(3);
    expect(received.find(({ url }) => url.startsWith("/commit"))?.url).toContain(`container=${OWN}`);
  });

  it("[S16] passes look-ups, changes and builds, with the id in place of the name", async () => {
    const own = docker.getContainer("own");
    await docker.info();
    await docker.version();
    await docker.df();
    await docker.listContainers({ all: true, filters: { label: ["x=y"] } });
    await docker.listImages();
    await docker.listVolumes({ filters: JSON.stringify({ label: ["x"] }) });
    await docker.listNetworks({ filters: { label: ["x"] } });
    await docker.getImage("ghcr.io/a/b:1").inspect();
    await own.start();
    await own.wait();
    await own.kill({ signal: "SIGTERM" });
    await own.rename({ name: "slipway-task_1-a2" });
    await own.logs({ follow: false, stdout: true, stderr: true, tail: 20 });
    await own.infoArchive({ path: "/x" });
    await own.putArchive(Buffer.from("tar"), { path: "/" });
    await own.remove({ force: true, v: true });
    await docker.getVolume("own").remove();
    await docker.getNetwork("own").remove();
    const options = {
      t: "slipway-worker:x-full",
      target: "worker",
      rm: true,
      forcerm: true,
      buildargs: { TOOLS: "full" },
    };
    const built = await docker.buildImage(Readable.from([Buffer.from("context")]), options);
    await text(built);
    await docker.pull("node:24");
    expect(refusals).toEqual([]);
    expect(received.filter(({ body }) => body !== "").map(({ method, type, body }) => [method, type, body])).toEqual([
      ["PUT", "application/x-tar", "tar"],
      ["POST", "application/x-tar", "context"],
    ]);
    const about = received.filter(({ url }) => /^\/containers\/(?!json)/.test(url));
    expect(about).toHaveLength(8);
    expect(about.filter(({ url }) => !url.startsWith(`/containers/${OWN}`))).toEqual([]);
  });

  it("[S16] what does not exist is answered as the engine answers it", async () => {
    expect(await send("GET", "/containers/gone/json")).toBe(404);
    expect(await send("DELETE", "/volumes/gone")).toBe(404);
    expect(refusals).toEqual([]);
  });

  it("an engine that does not answer looks as if it was asked directly", async () => {
    const proxy = createEngineProxy({
      engine: join(dir, "nobody.sock"),
      instance: INSTANCE,
      sockets: SOCKETS,
      report: () => undefined,
    });
    servers.push(proxy);
    await listen(proxy, join(dir, "second.sock"));
    const alone = openEngine({ docker: { socketPath: join(dir, "second.sock") } });
    for (const ask of [(to: Docker) => to.info(), (to: Docker) => to.getContainer("x").inspect()])
      await expect(alone.call<unknown>(ask)).rejects.toMatchObject({ code: "sandbox_unavailable" });
  });
});
