/** Data folders of the store's tests. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const MIGRATIONS = join(import.meta.dirname, "../../migrations/sqlite");

export const makeFolder = (): string => mkdtempSync(join(tmpdir(), "slipway-store-"));
export const dropFolder = (dir: string): void => rmSync(dir, { recursive: true, force: true });
