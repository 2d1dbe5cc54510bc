/** An act of a person: one call, whether it is under way, and in words what it came to. */
import { useState } from "react";
import { problemText } from "../lib/client.ts";

export interface ActResult {
  readonly text: string;
  readonly isBad: boolean;
}

interface Options<T> {
  /** The words of a success; absent or empty = the screen shows it. */
  readonly done?: (result: T) => string;
  readonly problem?: (thrown: unknown) => string;
  /** Reads again what the screen shows, however it ended; the act is under way until then. */
  readonly after?: () => Promise<unknown>;
}

export interface Act {
  /** Until the next act begins. */
  readonly said: ActResult | null;
  readonly isBusy: boolean;
  /**
   * Never rejects. The work begins at once, as parts of it must be within the tap. @returns whether
   * it succeeded.
   */
  readonly run: <T>(work: () => Promise<T>, options?: Options<T>) => Promise<boolean>;
}

/** The result is state of the component, so use it in one that the act does not remove. */
export function useAct(): Act {
  const [state, setState] = useState<Omit<Act, "run">>({ said: null, isBusy: false });
  const run: Act["run"] = async (work, { done, problem = problemText, after } = {}) => {
    let said: ActResult | null = null;
    setState({ said, isBusy: true });
    try {
      const result = await work();
      const text = done?.(result) ?? "";
      if (text !== "") said = { text, isBad: false };
    } catch (thrown) {
      said = { text: problem(thrown), isBad: true };
    }
    await after?.();
    setState({ said, isBusy: false });
    return said?.isBad !== true;
  };
  return { ...state, run };
}

export function ResultLine({ said }: { said: ActResult | null }) {
  if (said === null) return null;
  return (
    <p className={said.isBad ? "hint bad" : "hint"} role={said.isBad ? "alert" : "status"}>
      {said.text}
    </p>
  );
}
