/** What is told when no browser shows a notification: topics of ntfy servers, and webhooks. */
import { useState } from "react";
import type { WirePushDevice } from "../../../../../src/core/protocol/push.ts";
import { Choice } from "../../../components/forms/fields.tsx";
import { SimpleForm } from "../../../components/forms/simple-form.tsx";
import { Icon } from "../../../components/icon.tsx";
import { Sheet } from "../../../components/sheet.tsx";
import { Copyable } from "../../../components/text/copyable.tsx";
import { client } from "../../../lib/client.ts";
import type { Run } from "./device-history.tsx";

interface TopicsProps {
  readonly devices: readonly WirePushDevice[];
  readonly isBusy: boolean;
  readonly run: Run;
}

export function TopicsAndWebhooks({ devices, isBusy, run }: TopicsProps) {
  const [isAdding, setAdding] = useState(false);
  return (
    <section aria-labelledby="topics">
      <h2 className="over" id="topics">
        When no browser shows it for 30 s <span className="n">{devices.length}</span>
      </h2>
      <p className="note">A topic of an ntfy server or a webhook is told last. What they take counts as shown.</p>
      <ul className="rows set">
        {devices.map((device) => (
          <li key={device.id}>
            <Icon name={device.via === "ntfy" ? "bell" : "send"} />
            <span>
              <b>{device.label}</b>
              <small>{describe(device)}</small>
            </span>
            <button
              className="btn line"
              type="button"
              aria-label={`Test ${device.label}`}
              disabled={isBusy}
              onClick={() => run(() => client.push.test(device.id), device)}
            >
              Test
            </button>
            <button
              className="btn line"
              type="button"
              aria-label={`Remove ${device.label}`}
              disabled={isBusy}
              onClick={() => run(() => client.push.deleteDevice(device.id))}
            >
              Remove
            </button>
          </li>
        ))}
      </ul>
      <p className="talk">
        <button className="btn line wide" type="button" onClick={() => setAdding(true)}>
          <Icon name="plus" />
          Add a topic or a webhook
        </button>
      </p>
      {isAdding && <AddSheet onClose={() => setAdding(false)} run={run} />}
    </section>
  );
}

const VIAS: Readonly<Record<string, string>> = { ntfy: "ntfy", webhook: "webhook" };

function describe({ via, service, last }: WirePushDevice): string {
  const where = `${VIAS[via] ?? via} at ${service}`;
  const [newest] = last;
  if (newest === undefined) return `${where}, nothing sent yet`;
  if (newest.acceptedAt === null && newest.problem !== null) return `${where}. ${newest.problem}`;
  return `${where}, took ${last.filter(({ acceptedAt }) => acceptedAt !== null).length} of ${last.length}`;
}

const FIELDS: Readonly<Record<string, readonly string[]>> = {
  ntfy: ["Topic", "Name", "Token"],
  webhook: ["Address", "Name"],
};
const HINTS: Readonly<Record<string, string>> = {
  ntfy: "Titles and questions of your tasks go to that server. Choose a topic that nobody guesses, or one that needs a token.",
  webhook: "Titles and questions of your tasks are posted there, signed as Standard Webhooks has it.",
};
const PLACEHOLDERS = { Topic: "https://ntfy.sh/my-topic", Address: "https://example.org/hook", Name: "Its host" };

function AddSheet({ onClose, run }: { readonly onClose: () => void; readonly run: Run }) {
  const [via, setVia] = useState("ntfy");
  const [secret, setSecret] = useState<string | null>(null);
  if (secret !== null)
    return (
      <Sheet title="The secret of the webhook" isOpen onClose={onClose}>
        <p className="read">The receiver verifies messages with it. Copy it now; it is not shown again.</p>
        <Copyable text={secret} label="The secret" />
      </Sheet>
    );
  return (
    <Sheet title="Add a topic or a webhook" isOpen onClose={onClose}>
      <Choice
        label="What it is"
        name="via"
        value={via}
        options={["ntfy", "webhook"]}
        names={{ ntfy: "ntfy topic", webhook: "Webhook" }}
        hint={HINTS[via] ?? ""}
        onChange={setVia}
      />
      <SimpleForm
        key={via}
        fields={FIELDS[via] ?? []}
        optional={["Name", "Token"]}
        placeholders={PLACEHOLDERS}
        action="Add it"
        onSubmit={async ({ Topic = "", Address = "", Name = "", Token = "" }) => {
          const [label, token] = [Name.trim(), Token.trim()];
          const named = label === "" ? {} : { label };
          if (via === "ntfy") {
            await client.push.addNtfy({ url: Topic.trim(), ...named, ...(token === "" ? {} : { token }) });
            onClose();
          } else {
            setSecret((await client.push.addWebhook({ url: Address.trim(), ...named })).secret);
          }
          // Shows the new row.
          run(async () => undefined);
        }}
      />
    </Sheet>
  );
}
