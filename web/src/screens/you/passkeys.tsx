/** The passkeys of a person: made on this device, renamed, removed. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { OwnPasskey } from "../../../../src/client/types.ts";
import { ResultLine, useAct } from "../../components/act.tsx";
import { SimpleForm } from "../../components/forms/simple-form.tsx";
import { Icon } from "../../components/icon.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client } from "../../lib/client.ts";
import { formatAge } from "../../lib/format.ts";
import { serverNow } from "../../lib/server-time.ts";
import { useHasPasskeys } from "../log-in/login-problems.ts";

export function Passkeys() {
  const queries = useQueryClient();
  const isOffered = useHasPasskeys();
  const list = useQuery({ queryKey: ["passkeys"], queryFn: ({ signal }) => client.people.passkeys({}, { signal }) });
  const { run, said, isBusy } = useAct();
  const [renamed, setRenamed] = useState<OwnPasskey | null>(null);
  const items = list.data?.items ?? [];
  if (!isOffered && items.length === 0 && said === null) return null;
  const refresh = (): Promise<void> => queries.invalidateQueries({ queryKey: ["passkeys"] });
  const remove = ({ id }: OwnPasskey): void => void run(() => client.people.deletePasskey(id), { after: refresh });
  const make = async (): Promise<void> => {
    const { makePasskey, passkeyProblem } = await import("../../lib/device/passkeys.ts");
    await run(makePasskey, { problem: passkeyProblem, after: refresh });
  };
  return (
    <section aria-labelledby="passkeys-title">
      <h2 className="over" id="passkeys-title">
        Passkeys <span className="n">{items.length}</span>
      </h2>
      <ul className="rows set">
        {items.map((passkey) => (
          <Row
            key={passkey.id}
            passkey={passkey}
            isBusy={isBusy}
            onRename={() => setRenamed(passkey)}
            onRemove={() => remove(passkey)}
          />
        ))}
        {items.length === 0 && (
          <li>
            <Icon name="key" />
            <span>
              <b>None</b>
              <small>With a passkey this device logs you in, without a password.</small>
            </span>
          </li>
        )}
      </ul>
      <ResultLine said={said} />
      {isOffered && (
        <p className="talk">
          <button className="btn line wide" type="button" disabled={isBusy} onClick={() => void make()}>
            <Icon name="plus" />
            Add a passkey
          </button>
        </p>
      )}
      {renamed !== null && <RenameSheet passkey={renamed} onClose={() => setRenamed(null)} onRenamed={refresh} />}
    </section>
  );
}

interface RowProps {
  readonly passkey: OwnPasskey;
  readonly isBusy: boolean;
  readonly onRename: () => void;
  readonly onRemove: () => void;
}

function Row({ passkey, isBusy, onRename, onRemove }: RowProps) {
  const { name } = passkey;
  return (
    <li>
      <Icon name="key" />
      <span>
        <b>{name}</b>
        <small>{describePasskey(passkey)}</small>
      </span>
      <button className="btn line" type="button" aria-label={`Rename ${name}`} onClick={onRename}>
        Rename
      </button>
      <button className="btn line" type="button" aria-label={`Remove ${name}`} disabled={isBusy} onClick={onRemove}>
        Remove
      </button>
    </li>
  );
}

interface RenameProps {
  readonly passkey: OwnPasskey;
  readonly onClose: () => void;
  readonly onRenamed: () => Promise<void>;
}

function RenameSheet({ passkey, onClose, onRenamed }: RenameProps) {
  return (
    <Sheet title={`Rename ${passkey.name}`} isOpen onClose={onClose}>
      <SimpleForm
        fields={["Name"]}
        action="Rename it"
        onSubmit={async ({ Name: name = "" }) => {
          await client.people.renamePasskey(passkey.id, name);
          onClose();
          await onRenamed();
        }}
      />
    </Sheet>
  );
}

function describePasskey({ usable, createdAt, lastUsedAt }: OwnPasskey): string {
  if (!usable) return "made for another address of this server: it does not work here";
  const ago = (at: string): string => `${formatAge(Date.parse(at), serverNow())} ago`;
  return `made ${ago(createdAt)}, ${lastUsedAt === null ? "not used yet" : `used ${ago(lastUsedAt)}`}`;
}
