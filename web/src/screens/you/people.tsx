/** The accounts of this server and the open invitations, for admins. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { SlipwayProblem } from "../../../../src/client/problem.ts";
import type { Account, OneTimeLink } from "../../../../src/client/types.ts";
import { ResultLine, useAct } from "../../components/act.tsx";
import { Copyable } from "../../components/text/copyable.tsx";
import { Choice } from "../../components/forms/fields.tsx";
import { SimpleForm } from "../../components/forms/simple-form.tsx";
import { Icon } from "../../components/icon.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client, problemText } from "../../lib/client.ts";
import { PersonSheet, ROLES, ROLE_TEXTS, type Role } from "./person-sheet.tsx";

export function People() {
  const queries = useQueryClient();
  const list = useQuery({ queryKey: ["users"], queryFn: ({ signal }) => client.users({ limit: 200 }, { signal }) });
  const [isInviting, setInviting] = useState(false);
  const [chosen, setChosen] = useState<string | null>(null);
  const [link, setLink] = useState<string | null>(null);
  const [deleted, setDeleted] = useState<string | null>(null);
  const person = list.data?.items.find(({ id }) => id === chosen) ?? null;
  const refresh = (): Promise<void> => queries.invalidateQueries({ queryKey: ["users"] });
  return (
    <section aria-labelledby="people-title">
      <h2 className="over" id="people-title">
        People <span className="n">{list.data?.items.length ?? ""}</span>
      </h2>
      <ul className="rows set">
        {list.data?.items.map((account) => (
          <PersonRow key={account.id} account={account} onManage={() => setChosen(account.id)} />
        ))}
        {list.error !== null && (
          <li>
            <Icon name="warn" />
            <span>
              <b>The list cannot be read</b>
              <small>{problemText(list.error)}</small>
            </span>
          </li>
        )}
      </ul>
      {deleted !== null && (
        <p className="hint" role="status">
          {deleted} is deleted and cannot log in any more. Their tasks and files are removed within minutes.
        </p>
      )}
      <Invitations />
      <p className="talk">
        <button className="btn line wide" type="button" onClick={() => setInviting(true)}>
          <Icon name="plus" />
          Invite a person
        </button>
      </p>
      {person !== null && (
        <PersonSheet
          account={person}
          onClose={() => setChosen(null)}
          onChanged={refresh}
          onLink={(url) => {
            setChosen(null);
            setLink(url);
          }}
          onDeleted={() => {
            setChosen(null);
            setDeleted(person.email);
            void refresh();
          }}
        />
      )}
      <InviteSheet
        isOpen={isInviting}
        onClose={() => setInviting(false)}
        onLink={(url) => {
          setInviting(false);
          setLink(url);
          void queries.invalidateQueries({ queryKey: ["links"] });
        }}
      />
      <Sheet title="One-time link" isOpen={link !== null} onClose={() => setLink(null)}>
        <p className="read">
          Give it to the person over a channel that you trust. It works once and is not shown again.
        </p>
        <Copyable text={link ?? ""} label="The link" />
      </Sheet>
    </section>
  );
}

function PersonRow({ account, onManage }: { account: Account; onManage: () => void }) {
  const { email, role, disabledAt } = account;
  return (
    <li>
      <Icon name="person" />
      <span>
        <b>{email}</b>
        <small>{disabledAt === null ? role : `${role}, disabled`}</small>
      </span>
      <button className="btn line" type="button" aria-label={`Manage ${email}`} onClick={onManage}>
        Manage
      </button>
    </li>
  );
}

function InviteSheet({
  isOpen,
  onClose,
  onLink,
}: {
  isOpen: boolean;
  onClose: () => void;
  onLink: (url: string) => void;
}) {
  const [role, setRole] = useState<Role>("user");
  return (
    <Sheet title="Invite a person" isOpen={isOpen} onClose={onClose}>
      <Choice
        label="Role"
        name="role"
        value={role}
        options={ROLES}
        onChange={(next) => setRole(next as Role)}
        hint={ROLE_TEXTS[role]}
      />
      <SimpleForm
        fields={["E-mail"]}
        optional={["E-mail"]}
        action="Make the link"
        onSubmit={async ({ "E-mail": email = "" }) => {
          onLink((await client.people.invite({ role, ...(email === "" ? {} : { email }) })).url);
        }}
      />
    </Sheet>
  );
}

/** The link is not in the list any more, and its person may be in theirs. */
function describeUnwithdrawn(thrown: unknown): string {
  return thrown instanceof SlipwayProblem && thrown.code === "not_found"
    ? "It was not withdrawn: somebody had used it, or it did not work any more."
    : problemText(thrown);
}

/** Links that nobody used yet. */
function Invitations() {
  const queries = useQueryClient();
  const list = useQuery({ queryKey: ["links"], queryFn: ({ signal }) => client.people.links({}, { signal }) });
  const items = list.data?.items ?? [];
  const { run, said, isBusy } = useAct();
  if (items.length === 0) return <ResultLine said={said} />;
  // One that was used has made a person.
  const refresh = (): Promise<void> =>
    queries.invalidateQueries({ predicate: ({ queryKey: [key] }) => key === "links" || key === "users" });
  const withdraw = (id: string): void =>
    void run(() => client.people.withdrawLink(id), { problem: describeUnwithdrawn, after: refresh });
  return (
    <>
      <h3 className="over apart">
        Links that wait <span className="n">{items.length}</span>
      </h3>
      <ul className="rows set">
        {items.map((link) => (
          <li key={link.id}>
            <Icon name="key" />
            <span>
              <b>{link.email ?? "Anybody who has the link"}</b>
              <small>{describeLink(link)}</small>
            </span>
            <button className="btn line" type="button" disabled={isBusy} onClick={() => withdraw(link.id)}>
              Withdraw
            </button>
          </li>
        ))}
      </ul>
      <ResultLine said={said} />
    </>
  );
}

function describeLink({ kind, role, expiresAt }: OneTimeLink): string {
  const what = kind === "password" ? "new password" : `invitation as ${role ?? "user"}`;
  return `${what}, works until ${new Date(expiresAt).toLocaleDateString("en", { dateStyle: "medium" })}`;
}
