/**
 * Logs in once, keeps the session in a file, and shows the inbox: node inbox.mjs <session file>
 *
 * SLIPWAY_URL, SLIPWAY_EMAIL, SLIPWAY_PASSWORD: needed for the first run only. The session renews
 * itself; an app keeps it in its secure storage in the same way.
 */
import { readFile, writeFile } from "node:fs/promises";
import { SlipwayClient } from "slipway-client";

const { SLIPWAY_URL = "http://127.0.0.1:7080", SLIPWAY_EMAIL = "", SLIPWAY_PASSWORD = "" } = process.env;
const [file = "session.json"] = process.argv.slice(2);
const sessions = {
  load: async () => JSON.parse(await readFile(file, "utf8").catch(() => "null")),
  save: async (session) => await writeFile(file, JSON.stringify(session), { mode: 0o600 }),
};
const client = new SlipwayClient({ baseUrl: SLIPWAY_URL, sessions });
if ((await client.session()) === null) await client.login(SLIPWAY_EMAIL, SLIPWAY_PASSWORD);

const me = await client.me();
const { needs, running, waiting } = await client.counts({ owner: "me" });
console.log(`${me.email}: ${needs} need you, ${running} running, ${waiting} waiting`);
for (const { id, repoName, question } of (await client.tasks({ needs: "me" })).items)
  console.log(`${id} ${repoName}: ${question?.question}`);
for (const { name, base } of await client.repositories.recent()) console.log(`used ${name} ${base ?? ""}`);
