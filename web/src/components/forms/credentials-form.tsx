/** The fields of the log-in and of the first account. */
import { useState, type ReactNode } from "react";
import { problemText } from "../../lib/client.ts";

interface CredentialsFormProps {
  readonly label: string;
  readonly isNew: boolean;
  readonly action: (email: string, password: string) => Promise<void>;
  readonly children?: ReactNode;
}

export function CredentialsForm({ label, isNew, action, children }: CredentialsFormProps) {
  const [problem, setProblem] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const submit = async (form: HTMLFormElement): Promise<void> => {
    const fields = new FormData(form);
    setBusy(true);
    setProblem(null);
    try {
      await action(String(fields.get("email")), String(fields.get("password")));
    } catch (thrown) {
      setProblem(problemText(thrown));
    } finally {
      setBusy(false);
    }
  };
  return (
    <form
      aria-label={label}
      onSubmit={(event) => {
        event.preventDefault();
        void submit(event.currentTarget);
      }}
    >
      <div className="field">
        <label className="label" htmlFor="email">
          E-mail
        </label>
        <input
          className="input"
          id="email"
          name="email"
          type="email"
          autoComplete={isNew ? "username" : "username webauthn"}
          inputMode="email"
          required
          maxLength={254}
        />
      </div>
      <div className="field">
        <label className="label" htmlFor="password">
          Password
        </label>
        <input
          className="input"
          id="password"
          name="password"
          type="password"
          autoComplete={isNew ? "new-password" : "current-password"}
          required
          minLength={isNew ? 10 : 1}
          maxLength={1024}
          aria-invalid={problem !== null}
          aria-describedby="password-hint"
        />
        <p
          className={problem === null ? "hint" : "hint bad"}
          id="password-hint"
          role={problem === null ? undefined : "alert"}
        >
          {problem ?? (isNew ? "At least 10 characters." : "")}
        </p>
      </div>
      <div className="field">
        <button className="btn primary wide" type="submit" disabled={isBusy}>
          {label}
        </button>
      </div>
      {children}
    </form>
  );
}
