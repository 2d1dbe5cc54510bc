/** The accounts of this server, for admins. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Choice } from "../../components/forms/fields.tsx";
import { SimpleForm } from "../../components/forms/simple-form.tsx";
import { Icon } from "../../components/icon.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client } from "../../lib/client.ts";

type Role = "user" | "operator" | "admin";

export function People() {
  const list = useQuery({ queryKey: ["users"], queryFn: ({ signal }) => client.users({}, { signal }) });
  const [isOpen, setOpen] = useState(false);
  const [role, setRole] = useState<Role>("user");
  const [link, setLink] = useState<string | null>(null);
  const close = (): void => {
    setOpen(false);
    setLink(null);
  };
  const showPasswordLink = (id: string): void => {
    void client.people.passwordLink(id).then(({ url }) => setLink(url));
  };
  return (
    <section aria-labelledby="people-title">
      <h2 className="over" id="people-title">
        People <span className="n">{list.data?.items.length ?? ""}</span>
      </h2>
      <ul className="rows set">
        {list.data?.items.map(({ id, email, role: held, disabledAt }) => (
          <li key={id}>
            <Icon name="person" />
            <span>
              <b>{email}</b>
              <small>{disabledAt === null ? held : `${held}, disabled`}</small>
            </span>
            <button className="btn line" type="button" onClick={() => showPasswordLink(id)}>
              New password
            </button>
          </li>
        ))}
      </ul>
      <p className="talk">
        <button className="btn line wide" type="button" onClick={() => setOpen(true)}>
          <Icon name="plus" />
          Invite a person
        </button>
      </p>
      <Sheet title="Invite a person" isOpen={isOpen && link === null} onClose={() => link === null && close()}>
        <Choice
          label="Role"
          name="role"
          value={role}
          options={["user", "operator", "admin"]}
          onChange={(next) => setRole(next as Role)}
        />
        <SimpleForm
          fields={["E-mail"]}
          optional={["E-mail"]}
          action="Make the link"
          onSubmit={async ({ "E-mail": email = "" }) => {
            setLink((await client.people.invite({ role, ...(email === "" ? {} : { email }) })).url);
          }}
        />
      </Sheet>
      <Sheet title="One-time link" isOpen={link !== null} onClose={close}>
        <p className="read">
          Give it to the person over a channel that you trust. It is good once, and not shown again.
        </p>
        <pre className="out" tabIndex={0}>
          {link}
        </pre>
      </Sheet>
    </section>
  );
}
