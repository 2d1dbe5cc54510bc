/** Deletes the person's own account: says what goes and what stays, and asks who it is. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { navigate } from "../../../navigation/history.tsx";
import { useState } from "react";
import type { Me } from "../../../../../src/client/types.ts";
import { TextField } from "../../../components/forms/fields.tsx";
import { Icon } from "../../../components/icon.tsx";
import { Sheet } from "../../../components/sheet.tsx";
import { client } from "../../../lib/client.ts";
import { serverNow } from "../../../lib/server-time.ts";
import { leaveDeleted, logIn, session } from "../../../lib/session.ts";
import { useHasPasskeys, useProviders } from "../../log-in/login-problems.ts";
import { PasskeyButton } from "../../log-in/passkey-button.tsx";
import { DeletionForm } from "./deletion-form.tsx";
import { WhatGoes } from "./deletion-parts.tsx";

/** The server takes a log-in of the last ten minutes; three of them are for reading, ms. */
const FRESH_MS = 7 * 60_000;

interface DeleteAccountProps {
  readonly user: Me;
  readonly onClose: () => void;
}

export function DeleteAccount({ user, onClose }: DeleteAccountProps) {
  return (
    <Sheet title="Delete your account?" isOpen onClose={onClose}>
      <WhatGoes isOwn />
      <DeleteForm user={user} onClose={onClose} />
    </Sheet>
  );
}

/** Whether the server takes this session for a fresh log-in; null while that is not known. */
function useFresh(): boolean | null {
  const sessions = useQuery({
    queryKey: ["sessions"],
    queryFn: ({ signal }) => client.people.sessions({}, { signal }),
  });
  if (sessions.data === undefined) return sessions.isError ? false : null;
  const current = sessions.data.items.find((item) => item.current);
  return current !== undefined && serverNow() - Date.parse(current.createdAt) < FRESH_MS;
}

function DeleteForm({ user, onClose }: DeleteAccountProps) {
  const queries = useQueryClient();
  const wasFresh = useFresh();
  const [isRefused, setRefused] = useState(false);
  const isFresh = wasFresh === true && !isRefused;
  const [password, setPassword] = useState("");

  const leave = async (openTasks: "cancel" | null): Promise<void> => {
    if (!isFresh) await logIn(user.email, password);
    // A read that is under way would be refused once the account is gone.
    await queries.cancelQueries();
    await client.people.deleteMe(openTasks);
    await leaveDeleted(user);
  };
  /** The new session is fresh, if it is this person's: the passkey may be another's. */
  const enterAgain = async (): Promise<void> => {
    const now = session.get();
    if (now.kind !== "active" || now.user.id !== user.id) return await navigate("/", { replace: true });
    await queries.invalidateQueries({ queryKey: ["sessions"] });
    setRefused(false);
  };
  return (
    <DeletionForm
      email={user.email}
      owner="me"
      action="Delete my account"
      refrain="Keep it"
      isReady={isFresh || password !== ""}
      onDelete={leave}
      onRefused={(code) => {
        if (code === "fresh_login_required") setRefused(true);
      }}
      onClose={onClose}
    >
      {wasFresh !== null && !isFresh && <WhoItIs password={password} onChange={setPassword} onEnter={enterAgain} />}
    </DeletionForm>
  );
}

interface WhoItIsProps {
  readonly password: string;
  readonly onChange: (password: string) => void;
  readonly onEnter: () => Promise<void>;
}

/** A log-in of the last minutes: with the password or a passkey here, or a provider and back. */
function WhoItIs({ password, onChange, onEnter }: WhoItIsProps) {
  const providers = useProviders();
  const hasPasskeys = useHasPasskeys();
  const [isBusy, setBusy] = useState(false);
  return (
    <>
      <TextField label="Your password" type="password" value={password} onChange={onChange} />
      {(hasPasskeys || providers.length > 0) && (
        <p className="hint">
          Without a password: log in once more here with a passkey, or with a provider and come back.
        </p>
      )}
      {hasPasskeys && <PasskeyButton isBusy={isBusy} onBusy={setBusy} onEnter={onEnter} />}
      {providers.map(({ id, name, startUrl }) => (
        <a className="btn line wide" key={id} href={`${startUrl}?next=${encodeURIComponent("/you")}`}>
          <Icon name="key" />
          Log in with {name}
        </a>
      ))}
    </>
  );
}
