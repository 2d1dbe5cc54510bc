/** An admin deletes another person: says what goes, what stays, and what becomes of open tasks. */
import type { Account } from "../../../../../src/client/types.ts";
import { Sheet } from "../../../components/sheet.tsx";
import { client } from "../../../lib/client.ts";
import { DeletionForm } from "./deletion-form.tsx";
import { WhatGoes } from "./deletion-parts.tsx";
import { ExportRow } from "./export-row.tsx";

interface DeletePersonProps {
  readonly account: Account;
  readonly onClose: () => void;
  readonly onDeleted: () => void;
}

export function DeletePerson({ account: { id, email }, onClose, onDeleted }: DeletePersonProps) {
  return (
    <Sheet title={`Delete ${email}?`} isOpen onClose={onClose}>
      <WhatGoes isOwn={false} />
      <ul className="rows set">
        <ExportRow
          name={`slipway-${email}.tar.gz`}
          what="All that they have, as one .tar.gz without secrets."
          read={(signal) => client.people.export(id, { signal })}
        />
      </ul>
      <DeletionForm
        email={email}
        owner={id}
        action="Delete the person"
        refrain="Leave it"
        onDelete={(openTasks) => client.people.delete(id, openTasks).then(onDeleted)}
        onClose={onClose}
      />
    </Sheet>
  );
}
