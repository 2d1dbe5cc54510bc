/** Looks for secrets in bytes, in each form that they could take there. */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import type { Readable } from "node:stream";

/**
 * The part of its base64 that does not depend on what stands around it, for each place in a group
 * of three bytes at which it can begin.
 */
function base64Cores(secret: Buffer): string[] {
  return [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), secret]).toString("base64");
    return text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + secret.length) * 8) / 6));
  });
}

export function encodedForms(secret: string): string[] {
  const bytes = Buffer.from(secret);
  const cores = base64Cores(bytes);
  const urlSafe = cores.map((core) => core.replaceAll("+", "-").replaceAll("/", "_"));
  const hex = bytes.toString("hex");
  const percent = encodeURIComponent(secret);
  const json = JSON.stringify(secret).slice(1, -1);
  const forms = [
    secret,
    ...cores,
    ...urlSafe,
    hex,
    hex.toUpperCase(),
    percent,
    percent.replace(/%../g, (one) => one.toLowerCase()),
    json,
  ];
  return [...new Set(forms)];
}

export interface Scanner {
  /** Names of the secrets that are in these bytes. */
  bytes(content: Buffer | string): string[];
  /** The same for a stream of any length. */
  stream(content: Readable): Promise<string[]>;
}

/** @param patternFile where the scanner may write its patterns; must not be scanned itself. */
export function openScanner(secrets: Readonly<Record<string, string>>, patternFile: string): Scanner {
  const forms = Object.entries(secrets).map(([name, secret]) => [name, encodedForms(secret)] as const);
  writeFileSync(patternFile, forms.flatMap(([, list]) => list).join("\n"), { mode: 0o600 });

  function bytes(content: Buffer | string): string[] {
    const buffer = Buffer.from(content);
    return forms.filter(([, list]) => list.some((form) => buffer.includes(form))).map(([name]) => name);
  }

  return {
    bytes,
    stream(content) {
      const grep = spawn("grep", ["-aoF", "-f", patternFile], {
        env: { ...process.env, LC_ALL: "C" },
        stdio: ["pipe", "pipe", "inherit"],
      });
      content.pipe(grep.stdin);
      grep.stdin.on("error", () => undefined);
      const found: Buffer[] = [];
      grep.stdout.on("data", (chunk: Buffer) => found.push(chunk));
      return new Promise((resolve, reject) => {
        grep.once("close", (code) =>
          code === null || code > 1 ? reject(new Error("grep failed")) : resolve(bytes(Buffer.concat(found))),
        );
      });
    },
  };
}
