/** Personal access tokens: for scripts and other programs, with the scopes that they need. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { PersonalToken } from "../../../../src/client/types.ts";
import { ResultLine, useAct } from "../../components/act.tsx";
import { Copyable } from "../../components/text/copyable.tsx";
import { SelectField } from "../../components/forms/fields.tsx";
import { SimpleForm } from "../../components/forms/simple-form.tsx";
import { Icon } from "../../components/icon.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client } from "../../lib/client.ts";
import { formatAge } from "../../lib/format.ts";
import { serverNow } from "../../lib/server-time.ts";
import { session } from "../../lib/session.ts";
import { useStore } from "../../lib/store.ts";

type Scope = PersonalToken["scopes"][number];

const SCOPES: readonly (readonly [Scope, string, string])[] = [
  ["read", "Read", "Tasks, their logs and changes."],
  ["submit", "Submit", "Start, stop and answer tasks."],
  ["operate", "Operate", "The console: all tasks, the queue, clean-up."],
];
const DAYS = ["30", "90", "365", ""];
const DAY_NAMES = { "30": "30 days", "90": "90 days", "365": "A year", "": "Until it is revoked" };

export function Tokens() {
  const queries = useQueryClient();
  const list = useQuery({ queryKey: ["tokens"], queryFn: ({ signal }) => client.tokens({}, { signal }) });
  const [isOpen, setOpen] = useState(false);
  const { run, said, isBusy } = useAct();
  const refresh = (): Promise<void> => queries.invalidateQueries({ queryKey: ["tokens"] });
  const revoke = (id: string): void => void run(() => client.deleteToken(id), { after: refresh });
  return (
    <section aria-labelledby="tokens-title">
      <h2 className="over" id="tokens-title">
        Access tokens <span className="n">{list.data?.items.length ?? ""}</span>
      </h2>
      <ul className="rows set">
        {list.data?.items.map((token) => (
          <li key={token.id}>
            <Icon name="key" />
            <span>
              <b>{token.name}</b>
              <small>{describeToken(token)}</small>
            </span>
            <button className="btn line" type="button" disabled={isBusy} onClick={() => revoke(token.id)}>
              Revoke
            </button>
          </li>
        ))}
        {list.data?.items.length === 0 && (
          <li>
            <Icon name="key" />
            <span>
              <b>None</b>
              <small>A script or another program acts for you with a token.</small>
            </span>
          </li>
        )}
      </ul>
      <ResultLine said={said} />
      <p className="talk">
        <button className="btn line wide" type="button" onClick={() => setOpen(true)}>
          <Icon name="plus" />
          Make a token
        </button>
      </p>
      {isOpen && <NewToken onClose={() => setOpen(false)} onMade={refresh} />}
    </section>
  );
}

function describeToken({ scopes, expiresAt, lastUsedAt }: PersonalToken): string {
  const now = serverNow();
  const used = lastUsedAt === null ? "never used" : `used ${formatAge(Date.parse(lastUsedAt), now)} ago`;
  const end =
    expiresAt === null ? "" : `, ends ${new Date(expiresAt).toLocaleDateString("en", { dateStyle: "medium" })}`;
  return `${scopes.join(", ")}; ${used}${end}`;
}

function NewToken({ onClose, onMade }: { onClose: () => void; onMade: () => Promise<void> }) {
  const state = useStore(session);
  const isOperator = state.kind === "active" && state.user.role !== "user";
  const offered = SCOPES.filter(([scope]) => scope !== "operate" || isOperator);
  const [scopes, setScopes] = useState<readonly Scope[]>(["read", "submit"]);
  const [days, setDays] = useState("90");
  const [created, setCreated] = useState<string | null>(null);
  if (created !== null)
    return (
      <Sheet title="The token" isOpen onClose={onClose}>
        <p className="read">Copy it now; it is not shown again.</p>
        <Copyable text={created} label="The token" />
      </Sheet>
    );
  return (
    <Sheet title="Make a token" isOpen onClose={onClose}>
      <fieldset className="options">
        <legend className="label">What it may do</legend>
        {offered.map(([scope, title, text]) => (
          <label key={scope} className="option">
            <input
              type="checkbox"
              checked={scopes.includes(scope)}
              onChange={(event) =>
                setScopes(
                  SCOPES.map(([name]) => name).filter((name) =>
                    name === scope ? event.target.checked : scopes.includes(name),
                  ),
                )
              }
            />
            <b>{title}</b>
            <small>{text}</small>
          </label>
        ))}
      </fieldset>
      <SelectField label="Works for" value={days} options={DAYS} names={DAY_NAMES} onChange={setDays} />
      <SimpleForm
        fields={["Name"]}
        action="Make it"
        onSubmit={async ({ Name = "" }) => {
          if (scopes.length === 0) throw new Error("Choose at least one thing that the token may do.");
          const made = await client.createToken({
            name: Name,
            scopes,
            ...(days === "" ? {} : { expiresInDays: Number(days) }),
          });
          setCreated(made.token);
          await onMade();
        }}
      />
    </Sheet>
  );
}
