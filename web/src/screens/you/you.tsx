/** The account: appearance, access tokens, git credentials, people. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import type { Me } from "../../../../src/client/types.ts";
import { Bar } from "../../components/bar.tsx";
import { Choice } from "../../components/forms/fields.tsx";
import { SimpleForm } from "../../components/forms/simple-form.tsx";
import { Icon } from "../../components/icon.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client } from "../../lib/client.ts";
import { turnOff } from "../../lib/device/push.ts";
import { describeLoginProblem } from "../log-in/login-problems.ts";
import { formatAge } from "../../lib/format.ts";
import { serverNow } from "../../lib/server-time.ts";
import { logOut, session } from "../../lib/session.ts";
import { useStore } from "../../lib/store.ts";
import { readTheme, writeTheme, type Theme } from "../../lib/theme.ts";

import { Identities } from "./identities.tsx";
import { People } from "./people.tsx";
import { Sessions } from "./sessions.tsx";

export function You() {
  const state = useStore(session);
  const refusal = describeLoginProblem(useSearch({ from: "/private/you" }).problem);
  const [theme, setTheme] = useState<Theme>(readTheme);
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
          <section className="card" aria-label="Appearance">
            <Choice
              label="Appearance"
              name="theme"
              value={theme}
              options={["", "light", "dark"]}
              names={{ "": "As the system", light: "Light", dark: "Dark" }}
              onChange={(next) => {
                setTheme(next as Theme);
                writeTheme(next as Theme);
              }}
            />
          </section>
          <Sessions />
          <Identities />
          <Credentials />
          <Tokens />
          {user.role === "admin" && <People />}
        </div>
      </main>
    </div>
  );
}

function Account({ user }: { user: Me }) {
  const navigate = useNavigate();
  return (
    <section className="card" aria-label="Account">
      <div className="card-head">
        <Icon name="person" />
        <div className="grow">
          <h2>{user.email}</h2>
          <p className="note">{user.role}</p>
        </div>
        <button
          className="btn quiet"
          type="button"
          onClick={() =>
            void turnOff()
              .then(logOut)
              .then(() => navigate({ to: "/login" }))
          }
        >
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
  const refresh = (): Promise<void> => queries.invalidateQueries({ queryKey: ["credentials"] });
  return (
    <section aria-labelledby="credentials-title">
      <h2 className="over" id="credentials-title">
        Git credentials <span className="n">{list.data?.items.length ?? ""}</span>
      </h2>
      <ul className="rows set">
        {list.data?.items.map(({ id, host, username }) => (
          <li key={id}>
            <Icon name="lock" />
            <span>
              <b>{host}</b>
              <small>{username ?? "token"}</small>
            </span>
            <button className="btn line" type="button" onClick={() => void client.deleteCredential(id).then(refresh)}>
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
      <p className="talk">
        <button className="btn line wide" type="button" onClick={() => setOpen(true)}>
          <Icon name="plus" />
          Add a credential
        </button>
      </p>
      <Sheet title="Add a credential" isOpen={isOpen} onClose={() => setOpen(false)}>
        <SimpleForm
          fields={["Host", "User name", "Token"]}
          optional={["User name"]}
          action="Save"
          onSubmit={async ({ Host = "", Token = "", "User name": username = "" }) => {
            await client.putCredential({
              host: Host,
              kind: "token",
              token: Token,
              ...(username === "" ? {} : { username }),
            });
            setOpen(false);
            await refresh();
          }}
        />
      </Sheet>
    </section>
  );
}

function Tokens() {
  const queries = useQueryClient();
  const list = useQuery({ queryKey: ["tokens"], queryFn: ({ signal }) => client.tokens({}, { signal }) });
  const [isOpen, setOpen] = useState(false);
  const [created, setCreated] = useState<string | null>(null);
  const refresh = (): Promise<void> => queries.invalidateQueries({ queryKey: ["tokens"] });
  return (
    <section aria-labelledby="tokens-title">
      <h2 className="over" id="tokens-title">
        Access tokens <span className="n">{list.data?.items.length ?? ""}</span>
      </h2>
      <ul className="rows set">
        {list.data?.items.map(({ id, name, lastUsedAt }) => (
          <li key={id}>
            <Icon name="key" />
            <span>
              <b>{name}</b>
              <small>
                {lastUsedAt === null ? "never used" : `used ${formatAge(Date.parse(lastUsedAt), serverNow())} ago`}
              </small>
            </span>
            <button className="btn line" type="button" onClick={() => void client.deleteToken(id).then(refresh)}>
              Revoke
            </button>
          </li>
        ))}
      </ul>
      <p className="talk">
        <button className="btn line wide" type="button" onClick={() => setOpen(true)}>
          <Icon name="plus" />
          Make a token
        </button>
      </p>
      <Sheet
        title="Make a token"
        isOpen={isOpen}
        onClose={() => {
          setOpen(false);
          setCreated(null);
        }}
      >
        {created === null ? (
          <SimpleForm
            fields={["Name"]}
            action="Make it"
            onSubmit={async ({ Name = "" }) => {
              setCreated((await client.createToken({ name: Name })).token);
              await refresh();
            }}
          />
        ) : (
          <>
            <p className="read">Copy it now; it is not shown again.</p>
            <pre className="out" tabIndex={0}>
              {created}
            </pre>
          </>
        )}
      </Sheet>
    </section>
  );
}
