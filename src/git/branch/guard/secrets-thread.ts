/**
 * The thread that searches texts for secrets: rules and texts cost CPU, and the texts are hostile.
 * One request at a time; its owner ends the thread when an answer takes too long.
 */
import { parentPort } from "node:worker_threads";
import { lintSource } from "@secretlint/core";
import { creator } from "@secretlint/secretlint-rule-preset-recommend";
import { findRandomValues, lineAt, type Hit } from "./entropy.ts";

export interface SearchedText {
  readonly path: string;
  readonly bytes: Uint8Array;
  /** False for files of checksums: only the rules of providers count there. */
  readonly random: boolean;
}

const config = {
  rules: [{ id: "@secretlint/secretlint-rule-preset-recommend", rule: creator, options: {} }],
};

async function search({ path, bytes, random }: SearchedText): Promise<Hit[]> {
  const content = new TextDecoder().decode(bytes);
  const source = { filePath: `/${path}`, content, ext: "", contentType: "text" } as const;
  const { messages } = await lintSource({ source, options: { config, locale: "en", maskSecrets: true } });
  const known = messages.map(({ ruleId, messageId, range }): Hit => ({
    what: `${ruleId.replace("@secretlint/secretlint-rule-", "")}: ${messageId}`,
    line: lineAt(content, range[0]),
    value: content.slice(range[0], range[1]),
  }));
  const lines = new Set(known.map(({ line }) => line));
  return [...known, ...(random ? findRandomValues(content).filter(({ line }) => !lines.has(line)) : [])];
}

parentPort?.on("message", (texts: readonly SearchedText[]) => {
  Promise.all(texts.map(search)).then(
    (hits) => parentPort?.postMessage({ hits }),
    (error: unknown) => parentPort?.postMessage({ error: String(error) }),
  );
});
