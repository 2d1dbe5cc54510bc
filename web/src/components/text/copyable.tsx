/** A text to be copied, shown whole; without a clipboard it can be selected. */
import { useState } from "react";
import { Icon } from "../icon.tsx";

export function Copyable({ text, label }: { text: string; label: string }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
    } catch {
      // Not allowed, or not over https: the text is there to be selected.
      setCopied(false);
    }
  };
  return (
    <>
      <pre className="out whole" tabIndex={0} role="region" aria-label={label}>
        {text}
      </pre>
      <div className="acts">
        <button className="btn primary" type="button" onClick={() => void copy()}>
          {isCopied && <Icon name="check" />}
          <span role="status">{isCopied ? "Copied" : "Copy"}</span>
        </button>
      </div>
    </>
  );
}
