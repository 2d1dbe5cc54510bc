/** Saves a git credential for one host. */
import { client } from "../../lib/client.ts";
import { Sheet } from "../sheet.tsx";
import { SimpleForm } from "./simple-form.tsx";

interface CredentialSheetProps {
  /** Known where a repository asks for it; otherwise a field. */
  readonly host?: string;
  readonly onClose: () => void;
  readonly onSaved: () => Promise<void>;
}

export function CredentialSheet({ host, onClose, onSaved }: CredentialSheetProps) {
  return (
    <Sheet title={host === undefined ? "Add a credential" : `A credential for ${host}`} isOpen onClose={onClose}>
      <p className="read">
        An access token of the host that may read and write the repositories that you use. The server keeps it
        encrypted; agents never see it.
      </p>
      <SimpleForm
        fields={[...(host === undefined ? ["Host"] : []), "User name", "Token"]}
        optional={["User name"]}
        placeholders={{ Host: "github.com" }}
        action="Save"
        onSubmit={async ({ Host = "", Token = "", "User name": username = "" }) => {
          await client.putCredential({
            host: host ?? Host,
            kind: "token",
            token: Token,
            ...(username === "" ? {} : { username }),
          });
          await onSaved();
          onClose();
        }}
      />
    </Sheet>
  );
}
