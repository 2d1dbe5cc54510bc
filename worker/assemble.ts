/**
 * Assembles a worker: the real link, checkout and tools around one attempt. Used by the worker
 * process (main.ts) and by simulated sandboxes.
 */
import type { Redaction } from "../src/core/lib/json/redaction.ts";
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { WORKER_ENV } from "../src/core/protocol/worker.ts";
import type { Agent } from "./agents/agent.ts";
import { scriptedAgent } from "./agents/scripted.ts";
import { Checkout, prepareRepository, type PreparedRepository } from "./workspace/checkout.ts";
import { systemClock } from "../src/core/lib/runtime/system-clock.ts";
import { openForwarder } from "./connection/forwarding/forward.ts";
import { HttpLink } from "./connection/http-link.ts";
import { Journal } from "./connection/journal.ts";
import { openMcp } from "./mcp/client.ts";
import { openProxy, proxyEnv } from "./connection/forwarding/proxy.ts";
import { runAttempt } from "./run.ts";
import { CommandVariables } from "./tools/shell/variables.ts";
import { createTools } from "./tools/toolbox.ts";

/** Loaded on demand: the model client is most of the code that a worker would load at its start. */
const modelAgent: Agent = {
  run: async (context) => await (await import("./agents/anthropic/agent.ts")).createModelAgent().run(context),
};

interface ProgramOptions {
  readonly root: string;
  readonly stateDir: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Loaded on demand, like the model client. */
function acpAgent(options: ProgramOptions): Agent {
  return {
    run: async (context) => await (await import("./agents/acp/agent.ts")).createAcpAgent(options).run(context),
  };
}

/** Loaded on demand, like the model client. */
function execAgent(options: ProgramOptions): Agent {
  return {
    run: async (context) => await (await import("./agents/exec/agent.ts")).createExecAgent(options).run(context),
  };
}

export interface WorkerSettings {
  readonly socketPath: string;
  readonly token: string;
  readonly attempt: number;
  /** The directory of the checkout; created if it does not exist. */
  readonly root: string;
  /** The directory of the journal and the logs; survives a restart of the worker. */
  readonly stateDir: string;
  /** An empty repository at `root` whose creation has been started already. */
  readonly repository?: Promise<PreparedRepository>;
  /** The file of the worker's process; absent = it runs inside of another program. */
  readonly workerFile?: string | undefined;
  /** Aborting it cancels the attempt; the work is saved first. */
  readonly signal: AbortSignal;
}

/** @returns the exit code: one of WORKER_EXIT, or the one that a scripted agent chose. */
export async function runWorker(settings: WorkerSettings): Promise<number> {
  const { socketPath, token, attempt, root, stateDir, workerFile, signal } = settings;
  mkdirSync(root, { recursive: true });
  const repository = settings.repository ?? prepareRepository(root, stateDir);
  const journal = new Journal(stateDir, attempt);
  const forwarder = await openForwarder(socketPath);
  const proxy = await openProxy(socketPath, token);
  const attachmentDir = join(stateDir, "attachments");
  const access = workerFile === undefined ? null : { socketPath, token, workerFile };
  const own = { [WORKER_ENV.attempt]: String(attempt), SLIPWAY_ATTACHMENTS: attachmentDir };
  const variables = new CommandVariables({ ...own, ...proxyEnv(proxy.port) }, access, token);
  const { env } = variables;
  const secrets = (): Redaction => variables.secrets;
  const isOrphaned = (): boolean => !existsSync(stateDir);
  const link = new HttpLink({ socketPath, token, attempt, journal, clock: systemClock, secrets, isOrphaned });
  const tools = createTools(root, join(stateDir, "jobs"), env, attachmentDir, secrets);
  const programs = { root, stateDir, env };
  try {
    return await runAttempt({
      link,
      workspace: new Checkout({
        root,
        stateDir,
        repository,
        url: `http://127.0.0.1:${forwarder.port}/git/repo.git`,
        authorization: `Basic ${Buffer.from(`worker:${token}`).toString("base64")}`,
      }),
      tools,
      attachmentDir,
      variables,
      home: process.env["HOME"] ?? "/nonexistent",
      stateDir,
      openMcp: async (servers, stop) =>
        await openMcp(
          servers,
          { root, env, proxy: `http://127.0.0.1:${proxy.port}`, secrets: variables.secrets },
          stop,
        ),
      agents: { scripted: scriptedAgent, anthropic: modelAgent, acp: acpAgent(programs), exec: execAgent(programs) },
      clock: systemClock,
      model: { baseURL: `http://127.0.0.1:${forwarder.port}/anthropic`, token },
      newId: (prefix) => `${prefix}_${randomUUID().replaceAll("-", "")}`,
      signal,
    });
  } finally {
    await tools.close();
    await link.close();
    await forwarder.close();
    await proxy.close();
  }
}
