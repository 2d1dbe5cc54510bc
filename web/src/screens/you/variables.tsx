/** Variables of repositories: what the commands of the person's tasks find in their environment. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { RepositoryVariable, VariablePhase } from "../../../../src/core/protocol/repositories.ts";
import { useAct } from "../../components/act.tsx";
import { Bar } from "../../components/bar.tsx";
import { Choice, TextField } from "../../components/forms/fields.tsx";
import { SimpleForm } from "../../components/forms/simple-form.tsx";
import { Icon } from "../../components/icon.tsx";
import { PageHead } from "../../components/page-head.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client, problemText } from "../../lib/client.ts";
import { formatAge, formatRepo } from "../../lib/format.ts";
import { serverNow } from "../../lib/server-time.ts";

const PHASES: Readonly<Record<VariablePhase, string>> = {
  setup: "for the setup alone",
  agent: "for the setup and the agent",
};

export function Variables() {
  const queries = useQueryClient();
  const list = useQuery({
    queryKey: ["variables"],
    queryFn: ({ signal }) => client.repositories.variables({ limit: 200 }, { signal }),
  });
  const [adding, setAdding] = useState<string | null>(null);
  const { run, said, isBusy } = useAct();
  const refresh = (): Promise<void> => queries.invalidateQueries({ queryKey: ["variables"] });
  const remove = ({ repo, name }: RepositoryVariable): void =>
    void run(() => client.repositories.deleteVariable({ repo, name }), { after: refresh });
  const items = list.data?.items ?? [];
  const problem = said?.text ?? (list.error === null ? null : problemText(list.error));
  return (
    <div className="app has-side">
      <Bar />
      <main className="page" id="main">
        <PageHead title="Variables" back="/you" />
        <div className="stack">
          <p className="note">
            The commands of your tasks in a repository find them in their environment. A secret is not shown again, and
            is removed from what an agent writes.
          </p>
          {problem !== null && (
            <p className="banner st-failed" role="alert">
              {problem}
            </p>
          )}
          {[...new Set(items.map(({ repo }) => repo))].map((repo) => (
            <RepositoryVariables
              key={repo}
              repo={repo}
              items={items.filter((item) => item.repo === repo)}
              isBusy={isBusy}
              onAdd={() => setAdding(repo)}
              onRemove={remove}
            />
          ))}
          {list.data?.items.length === 0 && <p className="note">There are none yet.</p>}
          <button className="btn line wide" type="button" onClick={() => setAdding("")}>
            <Icon name="plus" />
            Add a variable
          </button>
        </div>
        {adding !== null && <VariableSheet repo={adding} onClose={() => setAdding(null)} onSaved={refresh} />}
      </main>
    </div>
  );
}

interface RepositoryVariablesProps {
  readonly repo: string;
  readonly items: readonly RepositoryVariable[];
  readonly isBusy: boolean;
  readonly onAdd: () => void;
  readonly onRemove: (item: RepositoryVariable) => void;
}

function RepositoryVariables({ repo, items, isBusy, onAdd, onRemove }: RepositoryVariablesProps) {
  return (
    <section aria-label={formatRepo(repo)}>
      <h2 className="over">
        {formatRepo(repo)} <span className="n">{items.length}</span>
      </h2>
      <ul className="rows set">
        {items.map((item) => (
          <li key={item.name}>
            <Icon name={item.secret ? "lock" : "file"} />
            <span>
              <b>
                <code>{item.name}</code>
              </b>
              <small>
                {item.secret ? "secret" : item.value}, {PHASES[item.phase]}, set{" "}
                {formatAge(Date.parse(item.updatedAt), serverNow())} ago
              </small>
            </span>
            <button
              className="btn line"
              type="button"
              aria-label={`Remove ${item.name}`}
              disabled={isBusy}
              onClick={() => onRemove(item)}
            >
              Remove
            </button>
          </li>
        ))}
      </ul>
      <p className="talk">
        <button className="btn quiet" type="button" onClick={onAdd}>
          <Icon name="plus" small />
          Another for {formatRepo(repo)}
        </button>
      </p>
    </section>
  );
}

interface VariableSheetProps {
  /** Empty = a field asks for it. */
  readonly repo: string;
  readonly onClose: () => void;
  readonly onSaved: () => Promise<void>;
}

function VariableSheet({ repo, onClose, onSaved }: VariableSheetProps) {
  const [address, setAddress] = useState(repo);
  const [isSecret, setSecret] = useState(true);
  const [phase, setPhase] = useState<VariablePhase>("setup");
  const recent = useQuery({
    queryKey: ["recent-repositories"],
    queryFn: ({ signal }) => client.repositories.recent({ limit: 6 }, { signal }),
    enabled: repo === "",
  });
  return (
    <Sheet title={repo === "" ? "Add a variable" : `A variable for ${formatRepo(repo)}`} isOpen onClose={onClose}>
      {repo === "" && (
        <TextField
          label="Repository"
          value={address}
          placeholder="https://github.com/owner/name.git"
          suggestions={recent.data?.map((row) => row.repo) ?? []}
          onChange={setAddress}
        />
      )}
      <label className="tick">
        <input type="checkbox" checked={isSecret} onChange={(event) => setSecret(event.target.checked)} />
        <span>It is a secret</span>
      </label>
      <Choice
        label="Who gets it"
        name="phase"
        value={phase}
        options={["setup", "agent"]}
        names={{ setup: "The setup", agent: "Also the agent" }}
        hint={
          phase === "setup"
            ? "Commands that run before the agent begins. What they write into files, the agent can read."
            : "Every command of the agent can read it: give only what an agent may use."
        }
        onChange={(next) => setPhase(next as VariablePhase)}
      />
      <SimpleForm
        key={isSecret ? "secret" : "plain"}
        fields={["Name", isSecret ? "Secret value" : "Value"]}
        placeholders={{ Name: "NPM_TOKEN" }}
        action="Save"
        onSubmit={async ({ Name = "", "Secret value": secret = "", Value: plain = "" }) => {
          if (address.trim() === "") throw new Error("Say which repository it is for.");
          const value = isSecret ? secret : plain;
          await client.repositories.putVariable({
            repo: address.trim(),
            name: Name.trim(),
            value,
            secret: isSecret,
            phase,
          });
          await onSaved();
          onClose();
        }}
      />
    </Sheet>
  );
}
