/**
 * Variables of a task's attempts: which values its commands get in which phase, and the removal of
 * secrets from what comes back.
 *
 * V1 A worker gets what its phase allows. The phase is read from the log: once `ready` is recorded,
 *    the values of the setup are not given again.
 * V2 A value that was given stays redacted until the task is settled, also after its owner has
 *    changed or removed the variable.
 */
import { Redactor, type StreamRedactor } from "../../../core/lib/json/redaction.ts";
import type { WorkerVariables } from "../../../core/protocol/worker.ts";
import type { Store } from "../../../core/ports/store.ts";
import type { Sandbox } from "../../../core/ports/sandbox.ts";
import { isSettledState, sandboxName, type Task } from "../../../core/task.ts";
import type { Variable } from "../../../core/protocol/repositories.ts";
import type { KnownSecret } from "../../../core/values/push-guard.ts";
import type { GetAuth } from "../../effects/upstream.ts";
import type { TaskLog } from "../../task-log.ts";

export interface VariablesDeps {
  /** The person's variables of the repository, opened; absent = there are none. */
  readonly variablesFor?: ((userId: string, repo: string) => Promise<readonly Variable[]>) | undefined;
  /** The person's credential for the repository. No worker gets it, but its host may repeat it. */
  readonly authFor?: GetAuth | undefined;
}

interface AttemptVariablesDeps extends VariablesDeps {
  readonly taskLog: Pick<TaskLog, "onCommit">;
  readonly store: Pick<Store, "task">;
  readonly sandbox: Pick<Sandbox, "runsRepositoryCommands">;
}

/** Messages of a task that are streamed at once. */
const STREAMS = 100;

/** What this process knows of a task. */
interface Known {
  /** By value: the name. Secrets that were stored when somebody looked. */
  readonly secrets: Map<string, string>;
  /** Tokens of the git host that were in use then. */
  readonly tokens: Set<string>;
  redactor: Redactor;
  /** By message; with the redactor that they were made of. */
  streams: Map<string, StreamRedactor>;
}

const newKnown = (): Known => ({
  secrets: new Map(),
  tokens: new Set(),
  redactor: new Redactor([]),
  streams: new Map(),
});
const hasSecrets = ({ secrets, tokens }: Known): boolean => secrets.size + tokens.size > 0;

export class AttemptVariables {
  readonly #deps: AttemptVariablesDeps;
  readonly #known = new Map<string, Known>();

  constructor(deps: AttemptVariablesDeps) {
    this.#deps = deps;
    deps.taskLog.onCommit((task) => {
      if (isSettledState(task.state)) this.#known.delete(task.id);
    });
  }

  /** What the commands of the task get now. Nothing where nothing isolates them. */
  async give(task: Task): Promise<WorkerVariables> {
    const isSetup = task.state === "provisioning";
    const given = (await this.#read(task)).filter(({ phase }) => isSetup || phase === "agent");
    return { variables: given.map(({ name, value, secret }) => ({ name, value, secret })) };
  }

  /** Whether the setup gets any. */
  async hasAny(task: Task): Promise<boolean> {
    return (await this.#read(task)).length > 0;
  }

  /** Null = there is nothing to remove. */
  async redactor(task: Pick<Task, "id" | "userId" | "spec">): Promise<Redactor | null> {
    const known = await this.#remember(task);
    return hasSecrets(known) ? known.redactor : null;
  }

  /** As `redactor`, for a caller that has no task. */
  async redactorOf(taskId: string): Promise<Redactor | null> {
    const task = await this.#deps.store.task(taskId);
    return task === null ? null : await this.redactor(task);
  }

  async secrets(task: Pick<Task, "id" | "userId" | "spec">): Promise<KnownSecret[]> {
    return [...(await this.#remember(task)).secrets].map(([value, name]) => ({ name, value }));
  }

  /** For a short text that may be cut, of a task whose worker was given something. */
  redactNow(taskId: string, text: string): string {
    return this.#known.get(taskId)?.redactor.redactTorn(text) ?? text;
  }

  /** Text of a message that is being written; a secret may be split over two pieces. */
  redactDelta(taskId: string, messageId: string, text: string): string {
    const known = this.#known.get(taskId);
    if (known === undefined || !hasSecrets(known)) return text;
    const stream = known.streams.get(messageId) ?? known.redactor.stream();
    known.streams.delete(messageId);
    known.streams.set(messageId, stream);
    const [oldest] = known.streams.keys();
    if (known.streams.size > STREAMS && oldest !== undefined) known.streams.delete(oldest);
    return stream.push(text);
  }

  async #read(task: Task): Promise<readonly Variable[]> {
    const { sandbox, variablesFor } = this.#deps;
    const name = sandboxName(task.id, task.snapshot.context.attempt);
    if (sandbox.runsRepositoryCommands?.(name) === false) return [];
    const stored = (await variablesFor?.(task.userId, task.spec.repo)) ?? [];
    this.#add(task.id, stored);
    return stored;
  }

  async #remember({ id, userId, spec }: Pick<Task, "id" | "userId" | "spec">): Promise<Known> {
    // One that cannot be opened is not in use either: the push says so.
    const auth = await this.#deps.authFor?.(userId, spec.repo).catch(() => null);
    return this.#add(id, (await this.#deps.variablesFor?.(userId, spec.repo)) ?? [], auth?.token);
  }

  #add(taskId: string, stored: readonly Variable[], token = ""): Known {
    const known = this.#known.get(taskId) ?? newKnown();
    this.#known.set(taskId, known);
    const fresh = stored.filter(({ secret, value }) => secret && !known.secrets.has(value));
    const isNewToken = token !== "" && !known.tokens.has(token);
    if (fresh.length === 0 && !isNewToken) return known;
    for (const { name, value } of fresh) known.secrets.set(value, name);
    if (isNewToken) known.tokens.add(token);
    known.redactor = new Redactor([...known.secrets.keys(), ...known.tokens]);
    known.streams = new Map();
    return known;
  }
}
