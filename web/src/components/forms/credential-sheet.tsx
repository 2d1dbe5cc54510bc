/** Saves a git credential for one host, which is asked about it first. */
import { useState } from "react";
import { SlipwayProblem } from "../../../../src/client/problem.ts";
import { client } from "../../lib/client.ts";
import { Sheet } from "../sheet.tsx";
import { SimpleForm } from "./simple-form.tsx";

interface CredentialSheetProps {
  /** Where a repository asks for it; otherwise fields. */
  readonly place?: { readonly host: string; readonly repo: string };
  readonly onClose: () => void;
  readonly onSaved: () => Promise<void>;
}

export function CredentialSheet({ place, onClose, onSaved }: CredentialSheetProps) {
  const [isRefused, setRefused] = useState(false);
  const [isUnchecked, setUnchecked] = useState(false);
  return (
    <Sheet title={place === undefined ? "Add a credential" : `A credential for ${place.host}`} isOpen onClose={onClose}>
      <p className="read">
        An access token of the host that may read and write the repositories that you use. The server asks the host
        about it and keeps it encrypted; agents never see it.
      </p>
      <SimpleForm
        fields={[...(place === undefined ? ["Host", "Repository"] : []), "User name", "Token"]}
        optional={["Repository", "User name"]}
        placeholders={{ Host: "github.com", Repository: "to check the token with" }}
        action="Save"
        onSubmit={async ({ Host = "", Repository = "", Token = "", "User name": username = "" }) => {
          const repo = place?.repo ?? Repository.trim();
          try {
            await client.putCredential({
              host: place?.host ?? Host,
              kind: "token",
              token: Token,
              ...(username === "" ? {} : { username }),
              ...(isUnchecked ? { check: false } : repo === "" ? {} : { repo }),
            });
          } catch (thrown) {
            setRefused(thrown instanceof SlipwayProblem && thrown.code === "credential_refused");
            throw thrown;
          }
          await onSaved();
          onClose();
        }}
      >
        {isRefused && (
          <label className="option">
            <input type="checkbox" checked={isUnchecked} onChange={(event) => setUnchecked(event.target.checked)} />
            <span>Save it without the check</span>
          </label>
        )}
      </SimpleForm>
    </Sheet>
  );
}
