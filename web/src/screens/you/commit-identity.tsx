/** How the commits of the person's tasks name them. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { CommitIdentity } from "../../../../src/core/values/git-identity.ts";
import { ResultLine, useAct } from "../../components/act.tsx";
import { Choice, TextField } from "../../components/forms/fields.tsx";
import { Icon } from "../../components/icon.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client, configQuery } from "../../lib/client.ts";

type Commits = { readonly author: string | null; readonly signed: boolean };
/** The author is a robot, or the person who asked. */
const BY_DEFAULT: Commits = { author: null, signed: false };

export function CommitIdentitySection() {
  const queries = useQueryClient();
  const config = useQuery(configQuery);
  const stored = useQuery({
    queryKey: ["commit-identity"],
    queryFn: ({ signal }) => client.people.commitIdentity({ signal }),
  });
  const [isOpen, setOpen] = useState(false);
  if (stored.data === undefined || config.data === undefined) return null;
  const identity = stored.data;
  const commits = config.data.commits ?? BY_DEFAULT;
  const refresh = async (): Promise<void> => {
    await queries.invalidateQueries({ queryKey: ["commit-identity"] });
    setOpen(false);
  };
  return (
    <section aria-labelledby="commits-title">
      <h2 className="over" id="commits-title">
        Commits
      </h2>
      <ul className="rows set">
        <li>
          <Icon name="person" />
          <span>
            <b>{identity === null ? "Your account's e-mail address" : `${identity.name} <${identity.email}>`}</b>
            <small>{describeRole(identity, commits)}</small>
          </span>
          <button className="btn line" type="button" onClick={() => setOpen(true)}>
            Change
          </button>
        </li>
        <li>
          <Icon name={commits.signed ? "st-done" : "key"} />
          <span>
            <b>{commits.signed ? "Signed" : "Not signed"}</b>
            <small>
              {commits.signed
                ? "This server signs the commits that it pushes."
                : "An operator sets a signing key for this server."}
            </small>
          </span>
        </li>
      </ul>
      <Sheet title="Commit identity" isOpen={isOpen} onClose={() => setOpen(false)}>
        <IdentityForm identity={identity} author={commits.author} onSaved={refresh} />
      </Sheet>
    </section>
  );
}

function describeRole(identity: CommitIdentity | null, { author }: Commits): string {
  return author === null || identity?.as === "author" ? "Author" : `Co-author; the author is ${author}`;
}

interface FormProps {
  readonly identity: CommitIdentity | null;
  /** Of the installation; null = the person is. */
  readonly author: string | null;
  readonly onSaved: () => Promise<void>;
}

function IdentityForm({ identity, author, onSaved }: FormProps) {
  const [name, setName] = useState(identity?.name ?? "");
  const [email, setEmail] = useState(identity?.email ?? "");
  const [as, setAs] = useState<CommitIdentity["as"]>(identity?.as ?? "installation");
  const { run, said, isBusy } = useAct();
  const send = (call: () => Promise<void>): void => void run(() => call().then(onSaved));
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        send(() => client.people.changeCommitIdentity({ name: name.trim(), email: email.trim(), as }));
      }}
    >
      <TextField label="Name" value={name} onChange={setName} />
      <TextField label="E-mail" type="email" value={email} onChange={setEmail} />
      {author !== null && (
        <Choice
          label="You are the"
          name="commit-as"
          value={as}
          options={["installation", "author"]}
          names={{ installation: "co-author", author: "author" }}
          hint={as === "author" ? "" : `The author is ${author}.`}
          onChange={(next) => setAs(next as CommitIdentity["as"])}
        />
      )}
      <p className="hint">It counts from the next attempt of your tasks on.</p>
      <ResultLine said={said} />
      <div className="acts">
        <button className="btn primary" type="submit" disabled={isBusy || name.trim() === "" || email.trim() === ""}>
          Save
        </button>
        {identity !== null && (
          <button
            className="btn line"
            type="button"
            disabled={isBusy}
            onClick={() => send(() => client.people.deleteCommitIdentity())}
          >
            Use the account's address
          </button>
        )}
      </div>
    </form>
  );
}
