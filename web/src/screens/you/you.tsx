/** The account: appearance, access tokens, git credentials, people. */
import { useIsFetching, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "../../navigation/link.tsx";
import { useAddress } from "../../navigation/history.tsx";
import { useEffect, useState } from "react";
import type { GitCredential, Me } from "../../../../src/client/types.ts";
import { ResultLine, useAct } from "../../components/act.tsx";
import { Bar } from "../../components/bar.tsx";
import { Choice } from "../../components/forms/fields.tsx";
import { CredentialSheet } from "../../components/forms/credential-sheet.tsx";
import { Icon } from "../../components/icon.tsx";
import { client } from "../../lib/client.ts";
import { formatAge } from "../../lib/format.ts";
import { serverNow } from "../../lib/server-time.ts";
import { describeLoginProblem } from "../log-in/login-problems.ts";
import { logOut, session } from "../../lib/session.ts";
import { useStore } from "../../lib/store.ts";
import { readTheme, writeTheme, type Theme } from "../../lib/theme.ts";

import { CommitIdentitySection } from "./commit-identity.tsx";
import { Identities } from "./identities.tsx";
import { YourData } from "./leaving/your-data.tsx";
import { Passkeys } from "./passkeys.tsx";
import { People } from "./people.tsx";
import { DeviceLink } from "./device-link.tsx";
import { Sessions } from "./sessions.tsx";
import { Tokens } from "./tokens.tsx";
import { UsageSection } from "./usage.tsx";

/** Longest wait for all lists; and for how long none is asked for when they are complete, ms. */
const LISTS_MS = 2_000;
const TOGETHER_MS = 50;

export function You() {
  const state = useStore(session);
  const refusal = describeLoginProblem(useAddress().search);
  const [theme, setTheme] = useState<Theme>(readTheme);
  const isReady = useSettled();
  if (state.kind !== "active") return null;
  const { user } = state;
  return (
    <div className="app has-side">
      <Bar />
      <main className="page" id="main">
        <header className="top">
          <h1>You</h1>
        </header>
        {refusal !== null && (
          <p className="banner st-failed" role="alert">
            {refusal}
          </p>
        )}
        <div className="stack">
          <Account user={user} />
          <Link className="btn line wide" to="/you/notifications">
            <Icon name="bell" />
            Notifications
          </Link>
          <Link className="btn line wide" to="/you/variables">
            <Icon name="lock" />
            Variables of repositories
          </Link>
          <section className="card" aria-label="Appearance">
            <Choice
              label="Appearance"
              name="theme"
              value={theme}
              options={["", "light", "dark"]}
              names={{ "": "System", light: "Light", dark: "Dark" }}
              onChange={(next) => {
                setTheme(next as Theme);
                writeTheme(next as Theme);
              }}
            />
          </section>
        </div>
        <div className="stack" hidden={!isReady}>
          <Sessions />
          <DeviceLink />
          <Passkeys />
          <Identities />
          <Credentials />
          <CommitIdentitySection />
          <Tokens />
          <UsageSection userId={user.id} title="What you use" />
          {user.role === "admin" && <People />}
          <YourData user={user} />
        </div>
      </main>
    </div>
  );
}

/** The lists appear together, so that none moves another; after a while those that are there. */
function useSettled(): boolean {
  const isFetching = useIsFetching() > 0;
  const [isSettled, setSettled] = useState(false);
  useEffect(() => {
    if (isSettled) return undefined;
    const timer = setTimeout(() => setSettled(true), isFetching ? LISTS_MS : TOGETHER_MS);
    return () => clearTimeout(timer);
  }, [isFetching, isSettled]);
  return isSettled;
}

function Account({ user }: { user: Me }) {
  return (
    <section className="card" aria-label="Account">
      <div className="card-head">
        <Icon name="person" />
        <div className="grow">
          <h2>{user.email}</h2>
          <p className="note">{user.role}</p>
        </div>
        <button className="btn quiet" type="button" onClick={() => void logOut()}>
          Log out
        </button>
      </div>
    </section>
  );
}

function Credentials() {
  const queries = useQueryClient();
  const list = useQuery({ queryKey: ["credentials"], queryFn: ({ signal }) => client.credentials({}, { signal }) });
  const [isOpen, setOpen] = useState(false);
  const { run, said, isBusy } = useAct();
  const refresh = (): Promise<void> => queries.invalidateQueries({ queryKey: ["credentials"] });
  const remove = (id: string): void => void run(() => client.deleteCredential(id), { after: refresh });
  return (
    <section aria-labelledby="credentials-title">
      <h2 className="over" id="credentials-title">
        Git credentials <span className="n">{list.data?.items.length ?? ""}</span>
      </h2>
      <ul className="rows set">
        {list.data?.items.map((credential) => (
          <li key={credential.id}>
            <Icon name="lock" />
            <span>
              <b>{credential.host}</b>
              <small>{describe(credential)}</small>
              {credential.check !== null && <small>{credential.check.message}</small>}
            </span>
            <button className="btn line" type="button" disabled={isBusy} onClick={() => remove(credential.id)}>
              Remove
            </button>
          </li>
        ))}
        {list.data?.items.length === 0 && (
          <li>
            <Icon name="lock" />
            <span>
              <b>None</b>
              <small>Public repositories can be read without one; a push needs one.</small>
            </span>
          </li>
        )}
      </ul>
      <ResultLine said={said} />
      <p className="talk">
        <button className="btn line wide" type="button" onClick={() => setOpen(true)}>
          <Icon name="plus" />
          Add a credential
        </button>
      </p>
      {isOpen && <CredentialSheet onClose={() => setOpen(false)} onSaved={refresh} />}
    </section>
  );
}

const USES = {
  check: "checked",
  read: "read",
  push: "pushed to",
  pull_request: "asked about a pull request of",
} as const;

function describe({ username, lastUsedAt, lastUse }: GitCredential): string {
  const use =
    lastUse === null || lastUsedAt === null
      ? "not used yet"
      : `${USES[lastUse.purpose]} ${lastUse.repo.replace(/^https?:\/\//, "")} ${formatAge(Date.parse(lastUsedAt), serverNow())} ago`;
  return `${username ?? "token"}, ${use}`;
}
