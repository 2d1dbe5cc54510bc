/**
 * What an agent program is told. It has its own system prompt; this is the task and what is special
 * here.
 */
import type { AgentContext, ReceivedMessage } from "../agent.ts";

const HERE = [
  "You work in a container of your own, on a checkout that is there for this task. Nobody watches: do not wait for a confirmation, and ask only what you cannot find out.",
  "Commit or leave your changes as they are; do not push. When you are done, end with a short summary of what you changed and how you checked it: it becomes the text of the pull request.",
];

export function firstPrompt({ spec, notes, cursor, instructions }: AgentContext): string {
  const checks =
    spec.verify.length === 0
      ? ""
      : `These checks are run afterwards:\n${spec.verify.map((one) => `- ${one}`).join("\n")}`;
  const before =
    spec.resume === null && cursor === null
      ? ""
      : "An earlier attempt at this task was interrupted. What it had done is in the checkout: look at git log and git diff before you go on, and do not repeat it.";
  const heard = spec.delivered.map(({ text }) => text).join("\n\n");
  const said = heard === "" ? "" : `Since the task was given, people have said:\n\n${heard}`;
  return [spec.prompt, ...notes.map((note) => `[Slipway] ${note}`), ...HERE, checks, before, said, instructions]
    .filter((text) => text !== "")
    .join("\n\n");
}

export function messagePrompt(messages: readonly ReceivedMessage[]): string {
  return messages.map(({ text }) => text).join("\n\n");
}

export function interruptionPrompt(messages: readonly ReceivedMessage[]): string {
  return `${messagePrompt(messages)}\n\n(You were interrupted for this message. Take it into account and go on with the task.)`;
}

export const GO_ON = "You stopped before the end, at a limit of one turn. Go on.";

export function failedChecksPrompt(
  failing: readonly { readonly command: string; readonly exitCode: number | null; readonly tail: string }[],
): string {
  const all = failing.map(({ command, exitCode, tail }) => `${command} ended with ${exitCode ?? "a signal"}:\n${tail}`);
  return `These checks do not pass. Repair what is yours, and say so if it is not.\n\n${all.join("\n\n")}`;
}
