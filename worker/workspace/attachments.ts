/**
 * The attachments of a task as files beside the checkout, and its pictures as a model takes them.
 *
 * F1 A file has the same name in each attempt and is outside of the repository, so that it is never
 *    part of the change.
 * F2 A picture is kept as it came from the coordinator: what an agent does to its file changes
 *    nothing of what the model was shown.
 */
import { mkdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage } from "../../src/core/error.ts";
import { isForModel, toFileName, type Attachment } from "../../src/core/values/attachment.ts";
import type { CoordinatorLink } from "../connection/link.ts";

/** A picture that the model is shown; `data()` of the folder has its content. */
export interface Picture {
  readonly id: string;
  readonly name: string;
  readonly mediaType: string;
}

/** Base64 characters of all pictures of a task; a request to the model takes 32 MB. */
const PICTURES_LENGTH = 20_000_000;
/** The provider lowers the largest size of each picture when a request has more. */
const MOST_PICTURES = 20;

export class AttachmentFolder {
  readonly dir: string;
  readonly #link: Pick<CoordinatorLink, "download">;
  /** By id, base64. */
  readonly #pictures = new Map<string, string>();
  #length = 0;
  /** By id: why the file is not there. */
  readonly #missing = new Map<string, string>();
  readonly #present = new Set<string>();

  constructor(dir: string, link: Pick<CoordinatorLink, "download">) {
    this.dir = dir;
    this.#link = link;
  }

  /** Writes those files that this process has not written. Rejects only when it must stop. */
  async fetch(attachments: readonly Attachment[], signal: AbortSignal): Promise<void> {
    for (const attachment of attachments) {
      const { id } = attachment;
      if (this.#present.has(id) || this.#missing.has(id)) continue;
      try {
        mkdirSync(this.dir, { recursive: true, mode: 0o700 });
        if (await this.#link.download(id, this.pathOf(attachment), signal)) await this.#keep(attachment);
        else this.#missing.set(id, "it is no longer on the server");
      } catch (thrown) {
        signal.throwIfAborted();
        this.#missing.set(id, errorMessage(thrown).slice(0, 200));
      }
    }
  }

  pathOf(attachment: Attachment): string {
    return join(this.dir, toFileName(attachment));
  }

  /** Describes the attachments to an agent; empty when there are none. */
  describe(attachments: readonly Attachment[]): string {
    if (attachments.length === 0) return "";
    const lines = attachments.map((attachment) => {
      const { id, name, mediaType, bytes, width, height } = attachment;
      const reason = this.#missing.get(id);
      if (reason !== undefined) return `- ${JSON.stringify(name)} could not be fetched: ${reason}`;
      const size = width === null || height === null ? "" : `, ${width}x${height}`;
      return `- ${this.pathOf(attachment)} (${mediaType}, ${bytes} bytes${size})`;
    });
    const words =
      "Attached to this, as files outside of the repository (copy what the change needs; they are not delivered):";
    return `${words}\n${lines.join("\n")}`;
  }

  /** Those of them that the model can be shown. */
  picturesOf(attachments: readonly Attachment[]): Picture[] {
    const shown = attachments.filter(({ id }) => this.#pictures.has(id));
    return shown.map(({ id, name, mediaType }) => ({ id, name, mediaType }));
  }

  /** Base64; null for what is not, or no longer, there. */
  data(id: string): string | null {
    return this.#pictures.get(id) ?? null;
  }

  async #keep(attachment: Attachment): Promise<void> {
    this.#present.add(attachment.id);
    if (!isForModel(attachment) || this.#pictures.size >= MOST_PICTURES) return;
    const data = (await readFile(this.pathOf(attachment))).toString("base64");
    if (this.#length + data.length > PICTURES_LENGTH) return;
    this.#length += data.length;
    this.#pictures.set(attachment.id, data);
  }
}
