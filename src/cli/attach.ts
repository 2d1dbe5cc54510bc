/** `--attach`: files that go with a prompt or a message. */
import { openAsBlob } from "node:fs";
import { basename } from "node:path";
import { errorMessage } from "../core/error.ts";
import type { SlipwayClient } from "../client/client.ts";
import { CliExit, EXIT } from "./exit.ts";

/** For options that may be given several times. */
export const collectTexts = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

/** Uploads the files in their order. @returns the field of the request; none without files. */
export async function uploadFiles(
  server: SlipwayClient,
  files: readonly string[] = [],
): Promise<{ attachments?: string[] }> {
  const attachments: string[] = [];
  for (const file of files) {
    const content = await openFile(file);
    attachments.push((await server.attachments.upload(basename(file), content)).id);
  }
  return attachments.length === 0 ? {} : { attachments };
}

/** @throws CliExit */
async function openFile(file: string): Promise<Blob> {
  try {
    return await openAsBlob(file);
  } catch (error) {
    throw new CliExit(EXIT.usage, `${file} cannot be read: ${errorMessage(error)}`);
  }
}
