/**
 * Sets what a program lets its client choose for a session: mode, model and effort. What it does
 * not offer stays as the program has it, and people are told.
 */
import {
  methods,
  type ClientConnection,
  type SessionConfigOption,
  type SessionConfigSelectOption,
  type SessionModeState,
  type SetSessionConfigOptionRequest,
} from "@agentclientprotocol/sdk";
import { errorMessage } from "../../../src/core/error.ts";
import type { AgentContext } from "../agent.ts";
import type { AcpEventMapper } from "../programs/event-mapper.ts";

/** Modes of known programs that ask for no permissions: the container confines the program. */
const UNASKING_MODES = ["bypassPermissions", "full-access", "agent-full-access", "yolo"];

export interface SessionOffer {
  readonly sessionId: string;
  readonly modes?: SessionModeState | null;
  readonly configOptions?: readonly SessionConfigOption[] | null;
}

export interface OptionParts {
  readonly agent: ClientConnection["agent"];
  readonly context: AgentContext;
  readonly events: AcpEventMapper;
  /** The mode that the operator chose; null = one that asks for no permissions. */
  readonly mode: string | null;
}

type Category = "mode" | "model" | "thought_level";
type Select = Extract<SessionConfigOption, { type: "select" }>;

export async function setOptions(parts: OptionParts, { sessionId, modes, configOptions }: SessionOffer): Promise<void> {
  const options = new SessionOptions(parts, sessionId, configOptions ?? []);
  const { model, effort } = parts.context.spec;
  await options.setMode(modes ?? null);
  if (model !== null) await options.set("model", (value) => value === model || value.endsWith(`/${model}`), model);
  if (effort !== null) await options.set("thought_level", (value) => value === effort, effort);
}

class SessionOptions {
  readonly #parts: OptionParts;
  readonly #sessionId: string;
  #options: readonly SessionConfigOption[];

  constructor(parts: OptionParts, sessionId: string, options: readonly SessionConfigOption[]) {
    this.#parts = parts;
    this.#sessionId = sessionId;
    this.#options = options;
  }

  async setMode(modes: SessionModeState | null): Promise<void> {
    const { mode } = this.#parts;
    const wanted = mode === null ? UNASKING_MODES : [mode];
    const option = this.#find("mode");
    const offered = option === null ? (modes?.availableModes.map(({ id }) => id) ?? []) : listValues(option);
    const chosen = wanted.find((id) => offered.includes(id));
    const current = option?.currentValue ?? modes?.currentModeId ?? null;
    if (chosen === current) return;
    if (chosen !== undefined) return await (option === null ? this.#sendMode(chosen) : this.#send(option, chosen));
    if (mode !== null) this.#notifyMissing("mode", mode, offered);
  }

  async set(category: Category, matches: (value: string) => boolean, wanted: string): Promise<void> {
    const option = this.#find(category);
    const values = option === null ? [] : listValues(option);
    const value = values.find(matches);
    // A program may use short names, such as sonnet, and take the full one from its environment.
    const isCurrent = option !== null && (option.currentValue === value || wanted.includes(option.currentValue));
    if (isCurrent) return;
    if (option !== null && value !== undefined) return await this.#send(option, value);
    if (category === "thought_level") this.#notifyMissing("effort", wanted, values);
    else if (option !== null) this.#notifyMissing(category, wanted, values);
  }

  #find(category: Category): Select | null {
    return (
      this.#options.find((option): option is Select => option.type === "select" && option.category === category) ?? null
    );
  }

  async #send({ id, name }: Select, value: string): Promise<void> {
    const { agent } = this.#parts;
    const params: SetSessionConfigOptionRequest = { sessionId: this.#sessionId, configId: id, value };
    try {
      const { configOptions } = await agent.request(methods.agent.session.setConfigOption, params);
      this.#options = configOptions;
    } catch (error) {
      this.#notifyRefused(name, value, error);
    }
  }

  async #sendMode(modeId: string): Promise<void> {
    try {
      await this.#parts.agent.request(methods.agent.session.setMode, { sessionId: this.#sessionId, modeId });
    } catch (error) {
      this.#notifyRefused("mode", modeId, error);
    }
  }

  #notifyMissing(what: string, wanted: string, offered: readonly string[]): void {
    const has = offered.length === 0 ? "offers no choice" : `offers ${offered.slice(0, 20).join(", ")}`;
    const text = `The program has no ${what} "${wanted}": it ${has}, and works with its own.`;
    this.#parts.events.notice("warning", "option_missing", text);
  }

  #notifyRefused(what: string, value: string, error: unknown): void {
    const text = `The program did not accept ${what} "${value}": ${errorMessage(error)}`;
    this.#parts.events.notice("warning", "option_refused", text);
  }
}

function listValues({ options }: Select): string[] {
  return options.flatMap((entry) => ("group" in entry ? entry.options.map(readValue) : [readValue(entry)]));
}

const readValue = ({ value }: SessionConfigSelectOption): string => value;
