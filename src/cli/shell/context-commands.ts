/** `slipway context`: which server the commands talk to. */
import type { Command } from "commander";
import { findServer } from "../connect.ts";
import { forgetContext, LOCAL, readContexts, useContext } from "./contexts.ts";
import { jsonOption, print, printJson, type Io } from "../io.ts";
import { openSessionFile } from "../session-file.ts";
import { formatTable, stripControls } from "../terminal/text.ts";

export function contextCommands(program: Command, io: Io): void {
  const group = program.command("context").description("Which server the commands talk to");
  jsonOption(group.command("list", { isDefault: true }))
    .description("List the servers that `slipway login --url` remembered; * marks the current one")
    .action((options: { readonly json?: true }) => {
      const { current, servers } = readContexts(io.env);
      const local = findServer({ context: LOCAL }, io.env);
      const named = Object.entries(servers).map(([name, url]) => ({
        name,
        url,
        current: name === current,
        loggedIn: openSessionFile(url, io.env).load() !== null,
      }));
      const own = { name: LOCAL, url: local.url, current: current === null, loggedIn: local.operatorToken !== null };
      if (options.json) return printJson(io, [own, ...named]);
      const rows = [own, ...named].map((item) => [
        item.current ? "*" : "",
        stripControls(item.name),
        stripControls(item.url),
        item.name === LOCAL ? "the data folder on this machine" : item.loggedIn ? "logged in" : "logged out",
      ]);
      print(io, formatTable(["", "NAME", "SERVER", ""], rows));
    });
  group
    .command("use")
    .description("Talk to this server from now on")
    .argument("<name>", `a context, or ${LOCAL} for the server of the data folder`)
    .action((name: string) => {
      useContext(io.env, name);
      print(io, `Commands now talk to ${findServer({ context: name }, io.env).url}.`);
    });
  group
    .command("remove")
    .description("Forget a server, and its log-in on this machine")
    .argument("<name>", "a context")
    .action(async (name: string) => {
      const url = forgetContext(io.env, name);
      await openSessionFile(url, io.env).save(null);
      print(io, `Forgot ${stripControls(name)} (${stripControls(url)}).`);
    });
}
