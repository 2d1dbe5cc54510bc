/** The accounts of this server, for admins. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Choice } from "../../components/forms/fields.tsx";
import { SimpleForm } from "../../components/forms/simple-form.tsx";
import { Icon } from "../../components/icon.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client } from "../../lib/client.ts";

export function People() {
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
