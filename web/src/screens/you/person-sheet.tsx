/** What an admin does with one account: role, new password, sessions, disable. */
import { useState } from "react";
import type { Account } from "../../../../src/client/types.ts";
import { ResultLine, useAct } from "../../components/act.tsx";
import { Choice } from "../../components/forms/fields.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { client } from "../../lib/client.ts";
import { session } from "../../lib/session.ts";
import { useStore } from "../../lib/store.ts";
import { DeletePerson } from "./leaving/delete-person.tsx";
import { UsageSection } from "./usage.tsx";

export type Role = Account["role"];
export const ROLES: readonly Role[] = ["user", "operator", "admin"];
export const ROLE_TEXTS: Readonly<Record<Role, string>> = {
  user: "Sees and runs their own tasks.",
  operator: "Sees all tasks and the console, and can stop every task.",
  admin: "Does what an operator does, and manages people.",
};

interface PersonSheetProps {
  readonly account: Account;
  readonly onClose: () => void;
  readonly onChanged: () => Promise<void>;
  readonly onLink: (url: string) => void;
  readonly onDeleted: () => void;
}

export function PersonSheet({ account, onClose, onChanged, onLink, onDeleted }: PersonSheetProps) {
  const { id, email, role, disabledAt } = account;
  const state = useStore(session);
  const isSelf = state.kind === "active" && state.user.id === id;
  const [next, setNext] = useState<Role>(role);
  const [asked, setAsked] = useState<"disable" | "delete" | null>(null);
  const act = useAct();
  const run: Run = (work, done) =>
    void act.run(() => work().then(onChanged), done === undefined ? {} : { done: () => done });
  if (asked === "disable" && disabledAt === null)
    return <DisableSheet account={account} onClose={() => setAsked(null)} onChanged={onChanged} />;
  if (asked === "delete")
    return <DeletePerson account={account} onClose={() => setAsked(null)} onDeleted={onDeleted} />;
  return (
    <Sheet title={email} isOpen onClose={onClose}>
      <Choice
        label="Role"
        name="person-role"
        value={next}
        options={ROLES}
        onChange={(chosen) => setNext(chosen as Role)}
        hint={ROLE_TEXTS[next]}
      />
      {next !== role && (
        <div className="acts">
          <button
            className="btn primary"
            type="button"
            disabled={act.isBusy}
            onClick={() => run(() => client.people.setRole(id, next), `The role is ${next} now.`)}
          >
            Change the role to {next}
          </button>
        </div>
      )}
      <UsageSection userId={id} title="What they use" />
      <PersonActions account={account} isSelf={isSelf} isBusy={act.isBusy} run={run} onLink={onLink} onAsk={setAsked} />
      {isSelf && (
        <p className="hint" id="disable-self">
          This is your own account: another admin can disable it, and you delete it under Your data.
        </p>
      )}
      <ResultLine said={act.said} />
    </Sheet>
  );
}

/** @param done the message after success. */
type Run = (work: () => Promise<unknown>, done?: string) => void;

interface PersonActionsProps {
  readonly account: Account;
  readonly isSelf: boolean;
  readonly isBusy: boolean;
  readonly run: Run;
  readonly onLink: (url: string) => void;
  readonly onAsk: (what: "disable" | "delete") => void;
}

function PersonActions({ account, isSelf, isBusy, run, onLink, onAsk }: PersonActionsProps) {
  const { id, disabledAt } = account;
  return (
    <>
      <div className="acts">
        <button
          className="btn line"
          type="button"
          disabled={isBusy}
          onClick={() => run(async () => onLink((await client.people.passwordLink(id)).url))}
        >
          Link for a new password
        </button>
        <button
          className="btn line"
          type="button"
          disabled={isBusy}
          onClick={() => run(() => client.people.endUserSessions(id), "The person is logged out everywhere.")}
        >
          Log out everywhere
        </button>
      </div>
      <div className="acts">
        {disabledAt === null ? (
          <button
            className="btn danger"
            type="button"
            disabled={isBusy || isSelf}
            aria-describedby={isSelf ? "disable-self" : undefined}
            onClick={() => onAsk("disable")}
          >
            Disable
          </button>
        ) : (
          <button
            className="btn line"
            type="button"
            disabled={isBusy}
            onClick={() => run(() => client.people.enable(id), "The person can log in again.")}
          >
            Enable
          </button>
        )}
        <button
          className="btn danger"
          type="button"
          disabled={isBusy || isSelf}
          aria-describedby={isSelf ? "disable-self" : undefined}
          onClick={() => onAsk("delete")}
        >
          Delete
        </button>
      </div>
    </>
  );
}

/** Says what happens to the person's tasks before anything does. */
function DisableSheet({ account, onClose, onChanged }: Omit<PersonSheetProps, "onLink" | "onDeleted">) {
  const [tasks, setTasks] = useState<"keep" | "cancel">("keep");
  const { run, said, isBusy } = useAct();
  const disable = (): Promise<void> => client.people.disable(account.id, tasks).then(onChanged).then(onClose);
  return (
    <Sheet title={`Disable ${account.email}?`} isOpen onClose={onClose}>
      <p className="read">
        The person is logged out and cannot log in until an admin enables the account. Access tokens stop working.
      </p>
      <Choice
        label="Their open tasks"
        name="disable-tasks"
        value={tasks}
        options={["keep", "cancel"]}
        names={{ keep: "Go on", cancel: "Are cancelled" }}
        onChange={(chosen) => setTasks(chosen as "keep" | "cancel")}
      />
      <ResultLine said={said} />
      <div className="acts">
        <button className="btn danger solid" type="button" disabled={isBusy} onClick={() => void run(disable)}>
          Disable the account
        </button>
        <button className="btn line" type="button" onClick={onClose}>
          Leave it
        </button>
      </div>
    </Sheet>
  );
}
