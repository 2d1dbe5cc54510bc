import { openSqliteStore } from "../../src/store/sqlite.ts";
import { storeContract } from "../contract/store.ts";
import { dropFolder, makeFolder, MIGRATIONS } from "./folder.ts";

storeContract("sqlite", () => {
  const dir = makeFolder();
  return { ...openSqliteStore({ dir, migrations: MIGRATIONS }), clear: () => dropFolder(dir) };
});
