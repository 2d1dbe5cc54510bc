/** What a person may take along, and the end of their account. */
import { useState } from "react";
import type { Me } from "../../../../../src/client/types.ts";
import { Icon } from "../../../components/icon.tsx";
import { client } from "../../../lib/client.ts";
import { DeleteAccount } from "./delete-account.tsx";
import { ExportRow } from "./export-row.tsx";

export function YourData({ user }: { user: Me }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <section aria-labelledby="data-title">
      <h2 className="over" id="data-title">
        Your data
      </h2>
      <ul className="rows set">
        <ExportRow
          name={`slipway-${user.email}.tar.gz`}
          what="All that you have here as one .tar.gz: profile, tasks, logs and files, without secrets."
          read={(signal) => client.people.exportMe({ signal })}
        />
        <li>
          <Icon name="trash" />
          <span>
            <b>Delete account</b>
            <small>You and your tasks, at once and for good.</small>
          </span>
          <button className="btn danger" type="button" aria-label="Delete account" onClick={() => setOpen(true)}>
            Delete
          </button>
        </li>
      </ul>
      {isOpen && <DeleteAccount user={user} onClose={() => setOpen(false)} />}
    </section>
  );
}
