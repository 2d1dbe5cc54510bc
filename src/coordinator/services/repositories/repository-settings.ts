/**
 * The settings of a repository's `.slipway.yml`, and which of them this server grants. The file is
 * read at the base commit, which no worker can change, each time that it is needed; nothing of it
 * is stored.
 */
import type { Proposal } from "../../../core/event.ts";
import { TaskFailure } from "../../../core/failure.ts";
import { isImageAllowed, OWN_IMAGE } from "../../../core/values/image-reference.ts";
import {
  NO_CONFIG,
  parseRepositoryConfig,
  REPOSITORY_CONFIG_BYTES,
  REPOSITORY_CONFIG_FILE,
  invalidConfig,
  type ParsedConfig,
  type RepositoryConfig,
} from "./repository-config.ts";
import type { TaskSpec } from "../../../core/task.ts";
import type { WorkerSpec } from "../../../core/protocol/worker.ts";
import { serverNotice, type ServerNoticeCode } from "../../../core/notices.ts";
import type { Repositories } from "../../../core/ports/repositories.ts";

export const NO_SETTINGS: ParsedConfig = { config: NO_CONFIG, warnings: [] };

/**
 * Requires the task repository. @param baseSha null = not known yet; the settings are then empty.
 */
export async function readRepositorySettings(
  repos: Pick<Repositories, "file">,
  taskId: string,
  baseSha: string | null,
): Promise<ParsedConfig> {
  if (baseSha === null) return NO_SETTINGS;
  const file = await repos.file(taskId, baseSha, REPOSITORY_CONFIG_FILE, REPOSITORY_CONFIG_BYTES);
  switch (file.kind) {
    case "absent":
      return NO_SETTINGS;
    case "unusable":
      return invalidConfig(file.why);
    case "text":
      return parseRepositoryConfig(file.text);
  }
}

/** Notices about the file for people, recorded once per attempt. */
export function settingsNotices({ config, warnings }: ParsedConfig, images: readonly string[] | null): Proposal[] {
  const notice = (level: "info" | "warning", code: ServerNoticeCode, text: string): Proposal =>
    serverNotice(level, code, text.slice(0, 4_000));
  const notices = warnings.map(({ code, text }) => notice("warning", code, text));
  if (config.hosts.length > 0) {
    const text = `${REPOSITORY_CONFIG_FILE} asks for network access to ${config.hosts.join(", ")}. That alone opens nothing: an operator allows hosts for this installation (docs/operate.md), and the task's egress policy must use them.`;
    notices.push(notice("info", "egress_wish", text));
  }
  if (images === null && config.image !== null && config.image !== OWN_IMAGE) {
    notices.push(
      notice(
        "warning",
        "image_unused",
        `${REPOSITORY_CONFIG_FILE} names the image ${config.image}, but this server's sandbox has no images.`,
      ),
    );
  }
  return notices;
}

export function commandsWithheldNotice(): Proposal {
  const text = `The commands of ${REPOSITORY_CONFIG_FILE} (setup, checks, tool servers) do not run, because this task runs without isolation. Install a Docker engine to run them.`;
  return serverNotice("warning", "commands_withheld", text);
}

/**
 * The image of a task's sandbox: that of the submission, else that of the repository, else null for
 * Slipway's own.
 * @throws TaskFailure `image_not_allowed`. The operator's list may have changed since the submit.
 */
export function resolveImage(
  spec: TaskSpec,
  config: RepositoryConfig,
  images: readonly string[] | null,
): string | null {
  const asked = spec.image ?? null;
  const image = asked ?? config.image ?? OWN_IMAGE;
  if (image === OWN_IMAGE || images === null) return null;
  if (isImageAllowed(image, images)) return image;
  const from = asked === null ? `${REPOSITORY_CONFIG_FILE} names it.` : "The task names it.";
  throw new TaskFailure("image_not_allowed", { detail: `It is ${image}. ${from}` });
}

/**
 * What the worker runs for the repository: its setup, its MCP servers, and its checks unless the
 * task has checks.
 */
export function resolveCommands(
  spec: TaskSpec,
  config: RepositoryConfig,
): Pick<WorkerSpec, "setup" | "verify" | "mcpServers"> {
  return {
    setup: config.setup.map(({ run, timeoutMinutes }) => ({
      command: run,
      timeoutMs: Math.round(timeoutMinutes * 60_000),
    })),
    mcpServers: config.mcp,
    verify: [...(spec.verify.length > 0 ? spec.verify : config.verify)],
  };
}
