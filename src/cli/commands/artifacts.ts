/** `slipway artifacts`: salvaged workspaces. */
import { createWriteStream } from "node:fs";
import { createHash } from "node:crypto";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Command } from "commander";
import type { SlipwayClient } from "../../client/client.ts";
import type { Artifact } from "../../client/types.ts";
import { CliExit, EXIT } from "../exit.ts";
import {
  jsonOption,
  client,
  untilInterrupted,
  openClient,
  print,
  printJson,
  type Io,
  type ReadOptions,
} from "../io.ts";
import { findTaskId } from "../task-argument.ts";
import { openSpinner } from "../terminal/spinner.ts";
import { stripControls, formatTable } from "../terminal/text.ts";

interface ArtifactOptions extends ReadOptions {
  readonly out?: string;
  readonly name?: string;
}

/** `950 B`, `12 KB`, `4.5 MB`. */
export function formatBytes(bytes: number): string {
  if (bytes < 1_024) return `${bytes} B`;
  if (bytes < 2 ** 20) return `${Math.round(bytes / 1_024)} KB`;
  return bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MB` : `${(bytes / 2 ** 30).toFixed(1)} GB`;
}

export function artifactsCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("artifacts")))
    .description("List or download workspaces that were salvaged from a task's sandboxes")
    .argument("<id>", "the task")
    .option("--out <file>", "download to this file (- for standard output); an existing file is not overwritten")
    .option("--name <name>", "which artifact (default: the newest)")
    .action(async (given: string, options: ArtifactOptions) => {
      const server = openClient(io, options);
      const id = await findTaskId(server, given);
      const { items } = await server.artifacts(id);
      if (options.out === undefined) {
        if (options.json) return printJson(io, items);
        if (items.length === 0)
          return print(io, `Nothing had to be salvaged. The saved work: ${io.command} diff ${stripControls(id)}`);
        return print(io, formatTable(["NAME", "SIZE", "FILES", "TAKEN", "MISSING"], items.map(artifactRow)));
      }
      const wanted = options.name === undefined ? items.at(-1) : items.find((one) => one.name === options.name);
      if (wanted === undefined) throw new CliExit(EXIT.failed, "The task has no such artifact.");
      await untilInterrupted((signal) => download(io, server, id, wanted, options.out ?? "-", signal));
    });
}

function artifactRow(one: Artifact): string[] {
  return [one.name, formatBytes(one.bytes), String(one.files), one.at, stripControls(one.note ?? "")];
}

async function download(
  io: Io,
  server: SlipwayClient,
  id: string,
  artifact: Artifact,
  out: string,
  signal: AbortSignal,
): Promise<void> {
  const hash = createHash("sha256");
  let bytes = 0;
  const status = openSpinner(io.err, () => `${formatBytes(bytes)} of ${formatBytes(artifact.bytes)}`);
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      hash.update(chunk);
      done(null, chunk);
    },
  });
  try {
    const content = Readable.fromWeb(
      (await server.artifact(id, artifact.name, { signal })) as Parameters<typeof Readable.fromWeb>[0],
    );
    if (out === "-") await pipeline(content, counted, io.out, { signal, end: false });
    else await pipeline(content, counted, createWriteStream(out, { flags: "wx" }), { signal });
  } finally {
    status.close();
  }
  if (hash.digest("hex") !== artifact.sha256)
    throw new CliExit(EXIT.failed, "The download does not match the artifact on the server. Try again.");
  if (out === "-") return;
  io.err.write(
    `${stripControls(out)}: ${formatBytes(bytes)}. Its content is untrusted: list it first (tar tzf), then unpack it over a fresh checkout.\n`,
  );
}
