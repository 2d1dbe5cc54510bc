/** The account: appearance, access tokens, git credentials, people. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { Bar } from "../components/bar.tsx";
import { Choice, TextField } from "../components/forms/fields.tsx";
import { Icon } from "../components/icon.tsx";
import { Sheet } from "../components/sheet.tsx";
import { client, problemText } from "../lib/client.ts";
import { formatAge } from "../lib/format.ts";
import { serverNow } from "../lib/server-time.ts";
import { logOut, session } from "../lib/session.ts";
import { useStore } from "../lib/store.ts";
import { readTheme, writeTheme, type Theme } from "../lib/theme.ts";

export function You() {
  const state = useStore(session);
  const navigate = useNavigate();
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
        <div className="stack">
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
                onClick={() => void logOut().then(() => navigate({ to: "/login" }))}
              >
                Log out
              </button>
            </div>
          </section>
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
          <Credentials />
          <Tokens />
          {user.role === "admin" && <People />}
        </div>
      </main>
    </div>
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

function People() {
  const queries = useQueryClient();
  const list = useQuery({ queryKey: ["users"], queryFn: ({ signal }) => client.users({}, { signal }) });
  const [isOpen, setOpen] = useState(false);
  const [role, setRole] = useState("user");
  return (
    <section aria-labelledby="people-title">
      <h2 className="over" id="people-title">
        People <span className="n">{list.data?.items.length ?? ""}</span>
      </h2>
      <ul className="rows set">
        {list.data?.items.map(({ id, email, role: held }) => (
          <li key={id}>
            <Icon name="person" />
            <span>
              <b>{email}</b>
              <small>{held}</small>
            </span>
          </li>
        ))}
      </ul>
      <p className="talk">
        <button className="btn line wide" type="button" onClick={() => setOpen(true)}>
          <Icon name="plus" />
          Add a person
        </button>
      </p>
      <Sheet title="Add a person" isOpen={isOpen} onClose={() => setOpen(false)}>
        <Choice label="Role" name="role" value={role} options={["user", "operator", "admin"]} onChange={setRole} />
        <SimpleForm
          fields={["E-mail", "Password"]}
          action="Add"
          onSubmit={async ({ "E-mail": email = "", Password: password = "" }) => {
            await client.createUser({ email, password, role: role as "user" | "operator" | "admin" });
            setOpen(false);
            await queries.invalidateQueries({ queryKey: ["users"] });
          }}
        />
      </Sheet>
    </section>
  );
}

interface SimpleFormProps {
  readonly fields: readonly string[];
  readonly optional?: readonly string[];
  readonly action: string;
  readonly onSubmit: (values: Readonly<Record<string, string>>) => Promise<void>;
}

const SECRETS = new Set(["Password", "Token"]);

function SimpleForm({ fields, optional = [], action, onSubmit }: SimpleFormProps) {
  const [values, setValues] = useState<Readonly<Record<string, string>>>({});
  const [problem, setProblem] = useState<string | null>(null);
  const isComplete = fields.every((name) => optional.includes(name) || (values[name] ?? "").trim() !== "");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        setProblem(null);
        onSubmit(values).catch((thrown: unknown) => setProblem(problemText(thrown)));
      }}
    >
      {fields.map((name) => (
        <TextField
          key={name}
          label={name}
          type={SECRETS.has(name) ? "password" : "text"}
          value={values[name] ?? ""}
          onChange={(value) => setValues({ ...values, [name]: value })}
        />
      ))}
      {problem !== null && (
        <p className="hint bad" role="alert">
          {problem}
        </p>
      )}
      <div className="acts">
        <button className="btn primary" type="submit" disabled={!isComplete}>
          {action}
        </button>
      </div>
    </form>
  );
}
