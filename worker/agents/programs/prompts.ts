/**
 * The texts that an agent program is sent. The program has its own system prompt; these contain the
 * task and the conditions of this environment.
 */
import type { AgentContext, ReceivedMessage } from "../agent.ts";
import type { ProgramConversation } from "./conversation.ts";

const ENVIRONMENT = [
  "You work in a container, on a checkout that exists only for this task. No one watches live: do not wait for a confirmation, and ask only what you cannot find out.",
  "Commit your changes or leave them as they are; do not push. When you are done, end with a short summary of what you changed and how you checked it: it becomes the text of the pull request.",
];

const INTERRUPTED =
  "An earlier attempt at this task was interrupted. Its work is in the checkout: read git log and git diff before you continue, and do not repeat it.";
const CONTINUED =
  "This task continues earlier work on the same branch, which is in the checkout: read git log and git diff where you need to know it.";

/**
 * The first prompt of a conversation that the program does not know: with the task, and what was
 * done so far as text.
 * @param latest what has happened since; empty = nothing.
 */
export function firstPrompt(
  { spec, notes, cursor, instructions, attached, delivered: received }: AgentContext,
  conversation: ProgramConversation,
  latest = "",
): string {
  const checks =
    spec.verify.length === 0
      ? ""
      : `These checks run afterwards:\n${spec.verify.map((command) => `- ${command}`).join("\n")}`;
  const isContinued = spec.resume !== null || cursor !== null || conversation.isOwn;
  const earlier = conversation.describe();
  const soFar = earlier === "" ? "" : `What was asked and done so far, oldest first:\n\n${earlier}`;
  const state = latest !== "" || !isContinued ? "" : conversation.isOwn || earlier === "" ? INTERRUPTED : CONTINUED;
  const delivered = received.map(({ text }) => text).join("\n\n");
  const messages = delivered === "" ? "" : `Messages of people since the task was given:\n\n${delivered}`;
  return [
    spec.prompt,
    attached,
    ...describeNotes(notes),
    ...ENVIRONMENT,
    checks,
    state,
    soFar,
    messages,
    latest,
    instructions,
  ]
    .filter((text) => text !== "")
    .join("\n\n");
}

/** The first prompt of an attempt whose program continues its own conversation. */
export function resumedPrompt({ spec, notes }: AgentContext, conversation: ProgramConversation): string {
  const unknown = spec.delivered.filter(({ id }) => !conversation.hasMessage(id)).map(({ text }) => text);
  const task = conversation.isOwn ? [INTERRUPTED] : [spec.prompt, CONTINUED];
  return [...task, ...describeNotes(notes), ...unknown].join("\n\n");
}

const describeNotes = (notes: readonly string[]): string[] => notes.map((note) => `[Slipway] ${note}`);

export function messagePrompt(messages: readonly ReceivedMessage[]): string {
  return messages.map(({ text }) => text).join("\n\n");
}

export function interruptionPrompt(messages: readonly ReceivedMessage[]): string {
  return `${messagePrompt(messages)}\n\n(You were interrupted for this message. Take it into account and continue with the task.)`;
}

export const CONTINUE = "You stopped before the end, at the limit of one turn. Continue.";

export function failedChecksPrompt(
  failing: readonly { readonly command: string; readonly exitCode: number | null; readonly tail: string }[],
): string {
  const results = failing.map(
    ({ command, exitCode, tail }) => `${command} ended with ${exitCode ?? "a signal"}:\n${tail}`,
  );
  return `These checks do not pass. Fix what you caused, and state it if you did not cause the failure.\n\n${results.join("\n\n")}`;
}

/** Openings that say that something ends, not what was done. */
const EMPTY_WORDS =
  /^(?:done|finished|all (?:set|done|good)|great|perfect|sure|ok(?:ay)?|summary|i(?:'ve| have)?\b|here\b|the\b|now\b|let\b)/i;
const TITLE_LENGTH = { least: 10, most: 72 };

/**
 * The title of the commit: the first line of the program's summary where it reads like one, such as
 * a heading or a sentence that says what was done; else the first line of the prompt.
 */
export function chooseTitle(summary: string, prompt: string): string {
  const first = summary.trim().split("\n", 1)[0] ?? "";
  const plain = first
    .replace(/^[#>*\-\s]+/, "")
    .replaceAll(/[*_`]/g, "")
    .trim();
  const sentence = (/^(.+?)[.:!](?:\s|$)/.exec(plain)?.[1] ?? plain).trim();
  const fits = sentence.length >= TITLE_LENGTH.least && sentence.length <= TITLE_LENGTH.most;
  const saysWhat = fits && sentence.includes(" ") && !EMPTY_WORDS.test(sentence);
  return saysWhat ? sentence : (prompt.trim().split("\n", 1)[0] ?? "");
}
