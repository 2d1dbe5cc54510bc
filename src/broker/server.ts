/**
 * The broker: one listener per attempt, on a separate unix socket, behind the attempt's token.
 *
 * B1 The token is a function of the secret and the attempt. Nothing is stored, and a restarted
 *    coordinator accepts the tokens of running workers, also those of earlier secrets.
 * B2 A listener serves one attempt and rejects the token of any other (rule S3).
 * B3 `revoke` and `close` end every open request, long polls included.
 */
import { removeGarbage, type Garbage, type GcMode, type IsNeeded } from "../core/lib/garbage.ts";
import type { Broker, BrokerEndpoint } from "../core/ports/broker.ts";
import { sandboxName } from "../core/task.ts";
import { AttemptListener, createAttemptToken, type AttemptIdentity, type ListenerOptions } from "./attempt-listener.ts";
import { SocketDirs } from "./socket-dirs.ts";

export interface BrokerOptions extends ListenerOptions {
  /** Contains one directory per attempt. */
  readonly dir: string;
  /** The newest first: each at least 32 random bytes, the same after a restart. */
  readonly secrets: () => readonly Uint8Array[];
  /** Distinguishes installations on one machine. */
  readonly instance: string;
  /** The user that workers run as, when this process is root. */
  readonly uid?: number;
}

export function openBroker(options: BrokerOptions): Broker {
  return new SocketBroker(options);
}

class SocketBroker implements Broker {
  readonly #options: BrokerOptions;
  readonly #dirs: SocketDirs;
  readonly #listeners = new Map<string, Promise<AttemptListener>>();

  constructor(options: BrokerOptions) {
    this.#options = options;
    this.#dirs = new SocketDirs(options.dir, options.instance, options.uid ?? null);
  }

  async open(taskId: string, attempt: number): Promise<BrokerEndpoint> {
    const name = getKey(taskId, attempt);
    const tokens = (): string[] => this.#options.secrets().map((secret) => createAttemptToken(secret, taskId, attempt));
    const [token] = tokens();
    if (token === undefined) throw new Error("there is no secret to make a token with");
    let opening = this.#listeners.get(name);
    if (opening === undefined) {
      opening = this.#listen({ taskId, attempt, tokens });
      this.#listeners.set(name, opening);
      opening.catch(() => this.#listeners.get(name) === opening && this.#listeners.delete(name));
    }
    await opening;
    return { socketDir: this.#dirs.locate(taskId, attempt).dir, token };
  }

  async revoke(taskId: string, attempt: number): Promise<void> {
    await this.#close(getKey(taskId, attempt));
    this.#dirs.remove(this.#dirs.locate(taskId, attempt));
  }

  async reclaim(isNeeded: IsNeeded, mode: GcMode): Promise<Garbage[]> {
    const garbage: Garbage[] = [];
    for (const { taskId, attempt } of this.#dirs.list()) {
      const name = sandboxName(taskId, attempt);
      const isOpen = (): boolean => this.#listeners.has(getKey(taskId, attempt));
      // The attempt may open while `isNeeded` is awaited.
      if (isOpen() || (await isNeeded(name)) || isOpen()) continue;
      const remove = async (): Promise<void> => this.#dirs.remove(this.#dirs.locate(taskId, attempt));
      garbage.push(await removeGarbage(mode, { kind: "sockets", name, bytes: null }, remove));
    }
    return garbage;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#listeners.keys()].map((name) => this.#close(name)));
  }

  async #listen(identity: AttemptIdentity): Promise<AttemptListener> {
    const location = this.#dirs.locate(identity.taskId, identity.attempt);
    const listener = new AttemptListener(this.#options, identity);
    this.#dirs.create(location);
    await listener.listen(location.path);
    this.#dirs.permit(location);
    return listener;
  }

  async #close(name: string): Promise<void> {
    const opening = this.#listeners.get(name);
    this.#listeners.delete(name);
    await opening?.then(
      async (listener) => await listener.close(),
      () => {},
    );
  }
}

const getKey = (taskId: string, attempt: number): string => `${taskId}.${attempt}`;
