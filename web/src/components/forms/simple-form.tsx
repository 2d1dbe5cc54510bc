/** A form of text fields that shows why it was refused. */
import { useState, type ReactNode } from "react";
import { problemText } from "../../lib/client.ts";
import { TextField } from "./fields.tsx";

interface SimpleFormProps {
  readonly fields: readonly string[];
  readonly optional?: readonly string[];
  readonly placeholders?: Readonly<Record<string, string>>;
  readonly action: string;
  readonly onSubmit: (values: Readonly<Record<string, string>>) => Promise<void>;
  /** Above the button. */
  readonly children?: ReactNode;
}

const SECRETS = new Set(["Password", "Current password", "New password", "Token", "Secret value"]);

export function SimpleForm({ fields, optional = [], placeholders = {}, action, onSubmit, children }: SimpleFormProps) {
  const [values, setValues] = useState<Readonly<Record<string, string>>>({});
  const [problem, setProblem] = useState<string | null>(null);
  const isComplete = fields.every((name) => optional.includes(name) || (values[name] ?? "").trim() !== "");
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        setProblem(null);
        onSubmit(values).catch((thrown: unknown) => setProblem(problemText(thrown)));
      }}
    >
      {fields.map((name) => (
        <TextField
          key={name}
          label={name}
          placeholder={placeholders[name]}
          isOptional={optional.includes(name)}
          type={SECRETS.has(name) ? "password" : "text"}
          value={values[name] ?? ""}
          onChange={(value) => setValues({ ...values, [name]: value })}
        />
      ))}
      {problem !== null && (
        <p className="hint bad" role="alert">
          {problem}
        </p>
      )}
      {children}
      <div className="acts">
        <button className="btn primary" type="submit" disabled={!isComplete}>
          {action}
        </button>
      </div>
    </form>
  );
}
