/** Deletes the person's own account: says what goes and what stays, and asks who it is. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { SlipwayProblem } from "../../../../../src/client/problem.ts";
import type { Me } from "../../../../../src/client/types.ts";
import { TextField } from "../../../components/forms/fields.tsx";
import { Icon } from "../../../components/icon.tsx";
import { Sheet } from "../../../components/sheet.tsx";
import { client, problemText } from "../../../lib/client.ts";
import { unsubscribe } from "../../../lib/device/push.ts";
import { serverNow } from "../../../lib/server-time.ts";
import { leaveDeleted, logIn, session } from "../../../lib/session.ts";
import { useHasPasskeys, useProviders } from "../../log-in/login-problems.ts";
import { CancelTick, isConfirmed, WhatGoes } from "./deletion-parts.tsx";

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

function useOpenTasks(): number {
  const counts = useQuery({
    queryKey: ["counts", "me"],
    queryFn: ({ signal }) => client.counts({ owner: "me" }, { signal }),
    staleTime: 0,
  });
  const { needs = 0, running = 0, waiting = 0 } = counts.data ?? {};
  return needs + running + waiting;
}

function DeleteForm({ user, onClose }: DeleteAccountProps) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const wasFresh = useFresh();
  const [isRefused, setRefused] = useState(false);
  const isFresh = wasFresh === true && !isRefused;
  const open = useOpenTasks();
  const [mayCancel, setMayCancel] = useState(false);
  const [password, setPassword] = useState("");
  const [typed, setTyped] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);

  const leave = async (): Promise<void> => {
    if (!isFresh) await logIn(user.email, password);
    // A read that is under way would be refused once the account is gone.
    await queries.cancelQueries();
    await client.people.deleteMe(open > 0 ? "cancel" : null);
    await leaveDeleted(user);
    await unsubscribe();
    await navigate({ to: "/login", search: {}, replace: true });
  };
  const submit = (): void => {
    setBusy(true);
    setProblem(null);
    leave().catch((thrown: unknown) => {
      setBusy(false);
      setProblem(problemText(thrown));
      if (!(thrown instanceof SlipwayProblem)) return;
      if (thrown.code === "fresh_login_required") setRefused(true);
      if (thrown.code === "task_open") void queries.invalidateQueries({ queryKey: ["counts", "me"] });
    });
  };
  /** The new session is fresh, if it is this person's: the passkey may be another's. */
  const enterAgain = async (): Promise<void> => {
    const now = session.get();
    if (now.kind !== "active" || now.user.id !== user.id) return await navigate({ to: "/", replace: true });
    await queries.invalidateQueries({ queryKey: ["sessions"] });
    setRefused(false);
  };
  const isComplete = isConfirmed(typed, user.email) && (isFresh || password !== "") && (open === 0 || mayCancel);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (isComplete && !isBusy) submit();
      }}
    >
      <CancelTick open={open} isOwn isChecked={mayCancel} onChange={setMayCancel} />
      {wasFresh !== null && !isFresh && <WhoItIs password={password} onChange={setPassword} onEnter={enterAgain} />}
      <TextField label={`Type ${user.email} to confirm`} value={typed} onChange={setTyped} />
      {problem !== null && (
        <p className="hint bad" role="alert">
          {problem}
        </p>
      )}
      <div className="acts">
        <button className="btn danger solid" type="submit" disabled={!isComplete || isBusy}>
          Delete my account
        </button>
        <button className="btn line" type="button" onClick={onClose}>
          Keep it
        </button>
      </div>
    </form>
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
  const [problem, setProblem] = useState<string | null>(null);
  const enter = async (): Promise<void> => {
    setProblem(null);
    const { enterWithPasskey, passkeyProblem } = await import("../../../lib/device/passkeys.ts");
    await enterWithPasskey().then(onEnter, (thrown: unknown) => setProblem(passkeyProblem(thrown)));
  };
  return (
    <>
      <TextField label="Your password" type="password" value={password} onChange={onChange} />
      {(hasPasskeys || providers.length > 0) && (
        <p className="hint">
          Without a password: log in once more here with a passkey, or with a provider and come back.
        </p>
      )}
      {hasPasskeys && (
        <button className="btn line wide" type="button" onClick={() => void enter()}>
          <Icon name="key" />
          Use a passkey
        </button>
      )}
      {problem !== null && (
        <p className="hint bad" role="alert">
          {problem}
        </p>
      )}
      {providers.map(({ id, name, startUrl }) => (
        <a className="btn line wide" key={id} href={`${startUrl}?next=${encodeURIComponent("/you")}`}>
          <Icon name="key" />
          Log in with {name}
        </a>
      ))}
    </>
  );
}
