/** `slipway backup` and `slipway restore`: they work on a data folder of this machine. */
import { createReadStream, createWriteStream, existsSync, renameSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import type { Readable, Writable } from "node:stream";
import type { Command } from "commander";
import { readConfig } from "../../app/config.ts";
import type { EarlierBackup } from "../../app/data-folder/backup-format.ts";
import type { BackupReport } from "../../app/data-folder/backup.ts";
import { isInBucket } from "../../app/data-folder/open-bucket.ts";
import { CliExit, EXIT } from "../exit.ts";
import { print, untilInterrupted, type Io } from "../io.ts";
import { openSpinner } from "../terminal/spinner.ts";
import { createPaint, formatTable, pluralize, stripControls } from "../terminal/text.ts";
import { formatBytes } from "./artifacts.ts";

interface BackupOptions {
  readonly dataDir?: string;
  readonly withKey?: true;
  readonly since?: string;
  readonly progress?: true;
}

export function backupCommand(program: Command, io: Io): void {
  program
    .command("backup")
    .description("Write a backup of the data folder on this machine, also while the server runs")
    .argument("<file>", "a new file, s3://bucket/prefix/name, or - for standard output")
    .option("--data-dir <folder>", "the data folder (SLIPWAY_DATA_DIR)")
    .option("--with-key", "also the secret key, which opens the stored git credentials: keep such a backup secret")
    .option("--since <backup>", "only what an earlier backup has not: to restore it, both are needed")
    .option("--progress", "print to standard error how far it is, twice a minute")
    .action(async (file: string, options: BackupOptions) => {
      const config = readConfig(io.env, options.dataDir === undefined ? {} : { dataDir: options.dataDir });
      const dir = resolve(config.dataDir);
      const { writeBackup } = await import("../../app/data-folder/backup.ts");
      const hasKey = options.withKey === true;
      const earlier = options.since === undefined ? undefined : await readEarlier(io, options.since);
      const content = { hasKey, earlier };
      if (file === "-") {
        if (io.out.isTTY) throw new CliExit(EXIT.usage, "A backup is not text: redirect it, or name a file.");
        await writeBackup(dir, io.out, content);
        return;
      }
      const { files, bytes } = isInBucket(file)
        ? await writeBucket(io, file, options, (out) => writeBackup(dir, out, content))
        : await writeVerified(file, (path) => writeBackup(dir, createPrivate(path), content));
      print(
        io,
        `${file}: ${pluralize(files, "file")}, ${formatBytes(bytes)} before compression, read back and verified.`,
      );
      if (earlier !== undefined) print(io, `It continues ${options.since}: keep both.`);
      if (!hasKey)
        print(
          io,
          "The secret key is not in it: keep secret.key (or what SLIPWAY_SECRET_KEY or SLIPWAY_SECRET_KEY_FILE gives) elsewhere.",
        );
    });
}

/** Reads it to its end: one that is damaged is not continued. */
async function readEarlier(io: Io, file: string): Promise<EarlierBackup> {
  const { verifyBackup } = await import("../../app/data-folder/restore.ts");
  const { header, files } = await verifyBackup(await openSource(io, file));
  return { createdAt: header.createdAt, files };
}

/** Between two lines about the progress, ms. */
const PROGRESS_MS = 30_000;

async function writeBucket(
  io: Io,
  place: string,
  { progress }: BackupOptions,
  write: (out: Writable) => Promise<BackupReport>,
): Promise<BackupReport> {
  const { writeToBucket } = await import("../../app/data-folder/backup-bucket.ts");
  let state = "";
  const status = openSpinner(progress === true ? { write: () => false } : io.err, () => state);
  const timer = setInterval(() => progress === true && io.err.write(`progress: ${state}\n`), PROGRESS_MS);
  const onProgress = (step: string, bytes: number): void => void (state = `${formatBytes(bytes)} ${step}`);
  try {
    return await untilInterrupted((signal) =>
      writeToBucket(place, write, { config: readConfig(io.env), signal, onProgress }),
    );
  } finally {
    clearInterval(timer);
    status.close();
  }
}

const createPrivate = (path: string) => createWriteStream(path, { flags: "wx", mode: 0o600 });

/** The file has its name only when it can be restored. */
async function writeVerified<T>(file: string, write: (path: string) => Promise<T>): Promise<T> {
  if (existsSync(file)) throw new CliExit(EXIT.usage, `${file} exists. Name a new file.`);
  const { verifyBackup } = await import("../../app/data-folder/restore.ts");
  const partial = `${file}.partial`;
  rmSync(partial, { force: true });
  try {
    const report = await write(partial);
    await verifyBackup(createReadStream(partial));
    renameSync(partial, file);
    return report;
  } finally {
    rmSync(partial, { force: true });
  }
}

export function restoreCommand(program: Command, io: Io): void {
  program
    .command("restore")
    .description("Unpack a backup into a new data folder, and check it. Nothing is overwritten")
    .argument("<file>", "the backup, s3://bucket/prefix/name, or - for standard input")
    .requiredOption("--into <folder>", "a folder that does not exist yet, or is empty")
    .option("--earlier <backups...>", "the backups that it continues, where it was made with --since")
    .action(async (file: string, options: { readonly into: string; readonly earlier?: readonly string[] }) => {
      const { restoreBackup } = await import("../../app/data-folder/restore.ts");
      const dir = resolve(options.into);
      const source = await openSource(io, file);
      const earlier = (options.earlier ?? []).map((one) => () => openSource(io, one));
      const { header, files } = await restoreBackup(source, dir, earlier);
      print(
        io,
        `${dir}: ${pluralize(files.length, "file")} of ${header.createdAt}, made by Slipway ${stripControls(header.version)}.`,
      );
      if (!header.hasKey && !io.env["SLIPWAY_SECRET_KEY"] && !io.env["SLIPWAY_SECRET_KEY_FILE"])
        print(
          io,
          "The backup has no secret key. Put secret.key into the folder, or set SLIPWAY_SECRET_KEY_FILE or SLIPWAY_SECRET_KEY, before you start.",
        );
      await check(io, dir);
    });
}

async function openSource(io: Io, file: string): Promise<Readable> {
  if (file === "-") return io.in;
  if (!isInBucket(file)) return createReadStream(file);
  const { readFromBucket } = await import("../../app/data-folder/backup-bucket.ts");
  return await readFromBucket(file, readConfig(io.env));
}

/** Doctor, on what does not depend on this machine: findings about the restored data end with 1. */
async function check(io: Io, dir: string): Promise<void> {
  const { runDoctor } = await import("../../app/checker/doctor.ts");
  const findings = await runDoctor({ config: { ...readConfig(io.env, { dataDir: dir }), dataDir: dir } });
  const broken = findings.filter(({ ok }) => !ok);
  const { green, red } = createPaint(io.out, io.env);
  if (broken.length === 0) return print(io, green("All checks passed. Start the server with this data folder."));
  const rows = broken.map(({ rule, detail }) => [stripControls(rule), stripControls(detail)]);
  print(io, formatTable(["RULE", "DETAIL"], rows));
  print(io, red(`${pluralize(broken.length, "finding")}; see \`slipway doctor --repair\``));
  io.end(EXIT.failed);
}
