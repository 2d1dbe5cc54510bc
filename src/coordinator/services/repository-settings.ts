/**
 * What a repository asks for in its `.slipway.yml`, and what of it this server grants. It is read at the base commit, which no worker can
 * change, and again whenever it is needed: nothing about it is stored.
 */
import type { Proposal } from "../../core/event.ts";
import { TaskFailure } from "../../core/failure.ts";
import { isImageAllowed, OWN_IMAGE } from "../../core/values/image-reference.ts";
import {
  NO_CONFIG,
  parseRepoConfig,
  REPO_CONFIG_BYTES,
  REPO_CONFIG_FILE,
  unreadable,
  type Reading,
  type RepoConfig,
} from "./repository-config.ts";
import type { TaskSpec } from "../../core/task.ts";
import type { WorkerSpec } from "../../core/protocol/worker.ts";
import type { Repos } from "../../core/ports/repositories.ts";

export const NOTHING_WISHED: Reading = { config: NO_CONFIG, complaints: [] };

/** The task repository must be there. @param baseSha null = not known yet: then nothing is asked for. */
export async function wishesOf(repos: Pick<Repos, "file">, taskId: string, baseSha: string | null): Promise<Reading> {
  if (baseSha === null) return NOTHING_WISHED;
  const file = await repos.file(taskId, baseSha, REPO_CONFIG_FILE, REPO_CONFIG_BYTES);
  switch (file.kind) {
    case "absent":
      return NOTHING_WISHED;
    case "unusable":
      return unreadable(file.why);
    case "text":
      return parseRepoConfig(file.text);
  }
}

/** What a person must know about the file, once per attempt. */
export function noticesOf({ config, complaints }: Reading, images: readonly string[] | null): Proposal[] {
  const notice = (level: "info" | "warning", code: string, text: string): Proposal => ({
    type: "notice",
    data: { level, code, text: text.slice(0, 4_000) },
  });
  const notices = complaints.map(({ code, text }) => notice("warning", code, text));
  if (config.hosts.length > 0) {
    const text = `${REPO_CONFIG_FILE} asks for network access to ${config.hosts.join(", ")}. That alone opens nothing: an operator allows hosts for this installation (docs/operate.md), and the task's egress policy must use them.`;
    notices.push(notice("info", "egress_wish", text));
  }
  if (images === null && config.image !== null && config.image !== OWN_IMAGE) {
    notices.push(
      notice("warning", "image_unused", `${REPO_CONFIG_FILE} names the image ${config.image}, but this server's sandbox has no images.`),
    );
  }
  return notices;
}

/**
 * The image of a task's sandbox: what was asked for at submit, else what the repository says, else null for Slipway's own.
 * @throws TaskFailure `image_not_allowed`. The operator's list may have changed since the submit.
 */
export function imageFor(spec: TaskSpec, config: RepoConfig, images: readonly string[] | null): string | null {
  const asked = spec.image ?? null;
  const image = asked ?? config.image ?? OWN_IMAGE;
  if (image === OWN_IMAGE || images === null) return null;
  if (isImageAllowed(image, images)) return image;
  const from = asked === null ? `${REPO_CONFIG_FILE} names it.` : "The task names it.";
  throw new TaskFailure("image_not_allowed", { detail: `It is ${image}. ${from}` });
}

/** What the repository has the worker run: its setup, its servers of tools, and the checks of tasks that bring none. */
export function commandsFor(spec: TaskSpec, config: RepoConfig): Pick<WorkerSpec, "setup" | "verify" | "mcpServers"> {
  return {
    setup: config.setup.map(({ run, timeoutMinutes }) => ({ command: run, timeoutMs: Math.round(timeoutMinutes * 60_000) })),
    mcpServers: config.mcp,
    verify: [...(spec.verify.length > 0 ? spec.verify : config.verify)],
  };
}
