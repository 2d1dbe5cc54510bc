import { openSqliteStore } from "../../../src/store/sqlite/store.ts";
import { storeContract } from "../../contract/store.ts";
import { dropFolder, makeFolder, MIGRATIONS } from "../data-folder.ts";

storeContract("sqlite", () => {
  const dir = makeFolder();
  return { ...openSqliteStore({ dir, migrations: MIGRATIONS }), clear: () => dropFolder(dir) };
});
