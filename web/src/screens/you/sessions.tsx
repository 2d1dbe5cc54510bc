/** Where a person is logged in, and their password. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { LoginSession } from "../../../../src/client/types.ts";
import { ResultLine, useAct } from "../../components/act.tsx";
import { SimpleForm } from "../../components/forms/simple-form.tsx";
import { Icon } from "../../components/icon.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client } from "../../lib/client.ts";
import { formatAge } from "../../lib/format.ts";
import { serverNow } from "../../lib/server-time.ts";

export function Sessions() {
  const queries = useQueryClient();
  const list = useQuery({ queryKey: ["sessions"], queryFn: ({ signal }) => client.people.sessions({}, { signal }) });
  const [isOpen, setOpen] = useState(false);
  const { run, said, isBusy } = useAct();
  const refresh = (): Promise<void> => queries.invalidateQueries({ queryKey: ["sessions"] });
  const end = (work: () => Promise<unknown>): void => void run(work, { after: refresh });
  const items = list.data?.items ?? [];
  return (
    <section aria-labelledby="sessions-title">
      <h2 className="over" id="sessions-title">
        Sessions <span className="n">{items.length}</span>
      </h2>
      <ul className="rows set">
        {items.map((session) => (
          <li key={session.id}>
            <Icon name="laptop" />
            <span>
              <b>{session.device === "" ? "An earlier log-in" : session.device}</b>
              <small>{describe(session)}</small>
            </span>
            {!session.current && (
              <button
                className="btn line"
                type="button"
                disabled={isBusy}
                onClick={() => end(() => client.people.endSession(session.id))}
              >
                End
              </button>
            )}
          </li>
        ))}
      </ul>
      <ResultLine said={said} />
      <p className="talk">
        {items.length > 1 && (
          <button
            className="btn line wide"
            type="button"
            disabled={isBusy}
            onClick={() => end(() => client.people.endSessions(true))}
          >
            End all others
          </button>
        )}
        <button className="btn line wide" type="button" onClick={() => setOpen(true)}>
          <Icon name="lock" />
          Change the password
        </button>
      </p>
      {isOpen && <PasswordSheet onClose={() => setOpen(false)} onChanged={refresh} />}
    </section>
  );
}

function describe({ current, lastUsedAt, address }: LoginSession): string {
  const use = current ? "this one" : `used ${formatAge(Date.parse(lastUsedAt), serverNow())} ago`;
  return address === "" ? use : `${use}, from ${address}`;
}

function PasswordSheet({ onClose, onChanged }: { onClose: () => void; onChanged: () => Promise<void> }) {
  return (
    <Sheet title="Change the password" isOpen onClose={onClose}>
      <SimpleForm
        fields={["Current password", "New password"]}
        optional={["Current password"]}
        action="Change it"
        onSubmit={async ({ "Current password": current = "", "New password": newPassword = "" }) => {
          const known = current === "" ? {} : { currentPassword: current };
          await client.people.changePassword({ newPassword, ...known });
          onClose();
          await onChanged();
        }}
      />
    </Sheet>
  );
}
