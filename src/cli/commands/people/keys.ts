/** `slipway keys`: what seals stored values and signs tokens, and the secret key that wraps it. */
import { resolve } from "node:path";
import type { Command } from "commander";
import { readConfig, type Config } from "../../../app/config.ts";
import { CliExit, EXIT } from "../../exit.ts";
import { client, jsonOption, openClient, print, printJson, type Io, type ReadOptions } from "../../io.ts";
import { formatTable, pluralize } from "../../terminal/text.ts";

interface FolderOptions {
  readonly dataDir?: string;
}

interface RotateOptions extends ReadOptions, FolderOptions {
  readonly master?: true;
  readonly newKeyFile?: string;
}

const FOLDER = ["--data-dir <folder>", "the data folder on this machine (SLIPWAY_DATA_DIR)"] as const;

function readFolder(io: Io, { dataDir }: FolderOptions): Config {
  const config = readConfig(io.env, dataDir === undefined ? {} : { dataDir });
  return { ...config, dataDir: resolve(config.dataDir) };
}

export function keyCommands(program: Command, io: Io): void {
  const keys = program.command("keys").description("The keys that seal stored values and sign tokens (admins)");
  jsonOption(client(keys.command("list")))
    .description("Ids and states of the keys, and how many stored values each seals")
    .action(async (options: ReadOptions) => {
      const page = await openClient(io, options).people.keys({ limit: 1_000 });
      if (options.json) return printJson(io, page);
      const rows = page.items.map(({ id, use, state, createdAt, retiredAt, sealed }) => {
        return [id, use, state, createdAt, retiredAt ?? "", sealed === null ? "" : String(sealed)];
      });
      print(io, formatTable(["ID", "USE", "STATE", "CREATED", "RETIRED", "SEALS"], rows));
    });
  rotateCommand(keys, io);
  keys
    .command("reset")
    .description("After the secret key was lost: remove what only it opens (saved credentials, variables, sessions)")
    .option(...FOLDER)
    .requiredOption("--yes", "you have no copy of the key; the server is stopped")
    .action(async (options: FolderOptions) => {
      const { resetKeys } = await import("../../../app/data-folder/rotate-master.ts");
      const config = readFolder(io, options);
      await resetKeys(config);
      print(
        io,
        `${config.dataDir} has no keys and no saved credentials and variables any more. The next start makes keys; people log in again.`,
      );
    });
}

function rotateCommand(keys: Command, io: Io): void {
  jsonOption(client(keys.command("rotate")))
    .description("Make new keys and seal stored values again, while the server runs; sessions and workers go on")
    .option("--master", "instead: replace the secret key, which wraps the others, while the server is stopped")
    .option(
      "--new-key-file <file>",
      "with --master: a file with the new secret key (made when the old one is in the data folder)",
    )
    .action(async (options: RotateOptions) => {
      if (options.master) return await rotateSecretKey(io, options);
      if (options.newKeyFile !== undefined) throw new CliExit(EXIT.usage, "--new-key-file belongs to --master.");
      const { resealed, unreadable, active } = await openClient(io, options).people.rotateKeys();
      if (options.json) return printJson(io, { resealed, unreadable, active });
      print(io, `New keys: ${active.map(({ use, id }) => `${use} ${id}`).join(", ")}.`);
      print(io, `${pluralize(resealed, "stored value")} sealed again. Sessions and workers go on.`);
      if (unreadable > 0)
        print(io, `${pluralize(unreadable, "stored value")} cannot be opened with any key: save them again.`);
    });
}

async function rotateSecretKey(io: Io, options: RotateOptions): Promise<void> {
  const { rotateMaster } = await import("../../../app/data-folder/rotate-master.ts");
  const config = readFolder(io, options);
  const newKeyFile = options.newKeyFile === undefined ? null : resolve(options.newKeyFile);
  const report = await rotateMaster(config, newKeyFile);
  if (options.json) return printJson(io, report);
  const setting = config.secretKey === null ? "SLIPWAY_SECRET_KEY_FILE" : "SLIPWAY_SECRET_KEY";
  print(io, `${pluralize(report.keys, "key")} wrapped with the new secret key.`);
  print(
    io,
    report.isInPlace
      ? "secret.key is the new one; backups from before need the old one."
      : `Now set ${setting} to the new key, then start the server. Keep the old key for backups from before.`,
  );
}
