/**
 * The environment of commands beside the image's, and the variables in it, which change once: those
 * of the setup are gone when the agent begins.
 *
 * The values of the setup never enter this process, whose memory a program of the same user might
 * read: each command of the setup runs below a process of its own that asks for them
 * (worker/workspace/setup/setup-shell.ts).
 */
import { Redactor, type Redaction } from "../../../src/core/lib/json/redaction.ts";
import { WORKER_ENV, type WorkerVariables } from "../../../src/core/protocol/worker.ts";

export const SETUP_ENV = { command: "SLIPWAY_SETUP_COMMAND", node: "SLIPWAY_NODE", worker: "SLIPWAY_WORKER" } as const;

export interface SetupAccess {
  readonly socketPath: string;
  readonly token: string;
  /** The file of this program. */
  readonly workerFile: string;
}

export class CommandVariables {
  /** What commands get; it changes, so it is read when a command starts. */
  readonly env: Record<string, string>;
  readonly #access: SetupAccess | null;
  readonly #named: Readonly<Record<string, string>>;
  #redactor: Redactor;

  /**
   * @param access null = the worker is no process of its own, and its setup gets no variables.
   * @param token the attempt's, which commands of programs have.
   */
  constructor(env: Readonly<Record<string, string>>, access: SetupAccess | null = null, token: string | null = null) {
    this.env = { ...env };
    this.#access = access;
    this.#named = token === null ? {} : { [token]: "[attempt token]" };
    this.#redactor = new Redactor([], this.#named);
  }

  /** Runs one command of the setup with its variables. */
  async runInSetup<T>(command: string, run: (command: string) => Promise<T>): Promise<T> {
    if (this.#access === null) return await run(command);
    const { socketPath, token, workerFile } = this.#access;
    const own = {
      [WORKER_ENV.socket]: socketPath,
      [WORKER_ENV.token]: token,
      [SETUP_ENV.command]: command,
      [SETUP_ENV.node]: process.execPath,
      [SETUP_ENV.worker]: workerFile,
    };
    Object.assign(this.env, own);
    try {
      return await run(`exec "$${SETUP_ENV.node}" "$${SETUP_ENV.worker}" setup`);
    } finally {
      for (const name of Object.keys(own)) delete this.env[name];
    }
  }

  /** From here on commands have these. */
  enter({ variables }: WorkerVariables): void {
    for (const { name, value } of variables) this.env[name] = value;
    const secrets = variables.filter(({ secret }) => secret).map(({ value }) => value);
    this.#redactor = new Redactor(secrets, this.#named);
  }

  /** Those that commands have at the time of the call. */
  get secrets(): Redaction {
    return this.#redactor;
  }
}
