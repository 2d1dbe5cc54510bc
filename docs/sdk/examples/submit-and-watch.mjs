/**
 * Submits a task and follows it to its end: node submit-and-watch.mjs <repository> <prompt>
 *
 * SLIPWAY_URL, SLIPWAY_TOKEN: the server, and a personal access token with the scopes read, submit.
 */
import { SlipwayClient } from "slipway-client";

const { SLIPWAY_URL = "http://127.0.0.1:7080", SLIPWAY_TOKEN } = process.env;
const [repo = "", prompt = ""] = process.argv.slice(2);
const client = new SlipwayClient({ baseUrl: SLIPWAY_URL, token: SLIPWAY_TOKEN });

// Before anything begins: what is wrong, and what to do about it.
const { problems } = await client.repositories.check({ repo });
for (const { about, message } of problems) console.error(`${about}: ${message}`);
if (problems.some(({ about }) => about !== "push")) process.exit(1);

const task = await client.submit({ repo, prompt, checkPush: problems.length === 0 });
console.log(`submitted ${task.id}`);
for await (const event of client.watch(task.id)) {
  if (event.from !== event.to) console.log(`${event.from ?? "new"} -> ${event.to}`);
  if (event.type === "tool.started") console.log(`tool ${event.data.name}`);
  if (event.type === "message") for (const block of event.data.content) console.log(block.text);
}
const { state, outcome, branch, failure } = await client.task(task.id);
console.log(state === "done" ? `${outcome}: ${branch}` : `${state}: ${failure?.message ?? ""} ${failure?.advice ?? ""}`);
process.exitCode = state === "done" ? 0 : 1;
