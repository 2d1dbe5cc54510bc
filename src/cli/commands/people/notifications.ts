/** `slipway notifications`: who is told about a person's tasks: browsers, ntfy topics, webhooks. */
import { InvalidArgumentError, type Command } from "commander";
import { NOTIFICATION_KINDS, type NotificationKind } from "../../../core/ports/notifications.ts";
import type { WirePushDevice } from "../../../core/protocol/push.ts";
import { client, jsonOption, openClient, print, printJson, readSecret, type Io, type ReadOptions } from "../../io.ts";
import { formatTable, stripControls } from "../../terminal/text.ts";

interface AddOptions extends ReadOptions {
  readonly label?: string;
  readonly for?: NotificationKind[];
  readonly token?: true;
}

const KINDS = NOTIFICATION_KINDS.filter((kind) => kind !== "test");

function parseKinds(text: string): NotificationKind[] {
  const names = text.split(",").map((name) => name.trim());
  const kinds = KINDS.filter((kind) => names.includes(kind));
  if (kinds.length !== names.length) throw new InvalidArgumentError(`It must be a list of ${KINDS.join(", ")}.`);
  return kinds;
}

function toRow({ id, via, label, service, kinds, last }: WirePushDevice): string[] {
  const shown = last.filter(({ shownAt }) => shownAt !== null).length;
  const about = kinds.filter((kind) => kind !== "test").join(",");
  return [id, via, label, service, about, `${shown} of ${last.length}`].map((cell) => stripControls(cell));
}

export function notificationCommands(program: Command, io: Io): void {
  const group = jsonOption(client(program.command("notifications")))
    .description("What is told about your tasks, in its order: browsers, then ntfy topics and webhooks")
    .action(async (options: ReadOptions) => {
      const { devices } = await openClient(io, options).push.status();
      if (options.json) return printJson(io, devices);
      if (devices.length === 0) return void io.err.write("Nothing is told about your tasks.\n");
      print(io, formatTable(["ID", "VIA", "NAME", "AT", "FOR", "SHOWN"], devices.map(toRow)));
    });
  const adding = (command: Command): Command =>
    jsonOption(client(command))
      .option("--label <name>", "its name in lists (its host by default)")
      .option("--for <kinds>", `what it is told about: ${KINDS.join(",")}`, parseKinds);
  const options = (command: Command): AddOptions => command.optsWithGlobals<AddOptions>();
  const common = ({ label, for: kinds }: AddOptions) => ({
    ...(label === undefined ? {} : { label }),
    ...(kinds === undefined ? {} : { kinds }),
  });

  adding(group.command("ntfy"))
    .description("Tell an ntfy topic what no browser shows within 30 s")
    .argument("<url>", "address of the topic, such as https://ntfy.sh/my-topic")
    .option("--token", "with an access token, from the terminal, standard input or SLIPWAY_NTFY_TOKEN")
    .action(async (url: string, _options: AddOptions, command: Command) => {
      const given = options(command);
      const token = given.token ? { token: await readSecret(io, "token", "SLIPWAY_NTFY_TOKEN") } : {};
      const device = await openClient(io, given).push.addNtfy({ url, ...token, ...common(given) });
      if (given.json) return printJson(io, device);
      print(io, `Added ${device.id}. Try it: ${io.command} notifications test ${device.id}`);
    });
  adding(group.command("webhook"))
    .description("Call a webhook with what no browser shows within 30 s; prints the secret that verifies it")
    .argument("<url>", "where the messages are posted")
    .action(async (url: string, _options: AddOptions, command: Command) => {
      const given = options(command);
      const device = await openClient(io, given).push.addWebhook({ url, ...common(given) });
      if (given.json) return printJson(io, device);
      io.err.write(`Added ${device.id}. Its secret, which is not shown again:\n`);
      print(io, device.secret);
    });
  client(group.command("test"))
    .description("Send a test")
    .argument("<id>")
    .action(async (id: string, _options: ReadOptions, command: Command) => {
      await openClient(io, options(command)).push.test(id);
      print(io, `Sent. Whether it arrived: ${io.command} notifications`);
    });
  client(group.command("remove"))
    .description("Tell it nothing more")
    .argument("<id>")
    .action(async (id: string, _options: ReadOptions, command: Command) => {
      await openClient(io, options(command)).push.deleteDevice(id);
      print(io, `Removed ${stripControls(id)}.`);
    });
}
