/** What the repository's host says before a task is sent: can it be read, can it be pushed to. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { SlipwayProblem } from "../../../../src/client/problem.ts";
import type { CheckProblem, RepositoryCheck } from "../../../../src/core/protocol/repositories.ts";
import { client, problemText } from "../../lib/client.ts";
import { Icon } from "../icon.tsx";
import { CredentialSheet } from "./credential-sheet.tsx";

/** Each check asks a host, and a person has thirty per minute: it waits for the end of typing. */
const PAUSE_MS = 700;
const FRESH_MS = 60_000;
/**
 * Addresses of other kinds are checked too, because the server answers with the form to use
 * instead.
 */
const LOOKS_WHOLE = /^(?:https?:\/\/[^/\s]+\/\S+|(?!https?:)[a-z][a-z0-9+.-]*:\/\/\S+|[\w.-]+@[\w.-]+:\S+)/i;
/** What a credential mends. */
const CREDENTIAL_CODES: ReadonlySet<CheckProblem["code"]> = new Set(["repo_auth", "repo_not_found", "push_auth"]);

export interface RepositoryCheckView {
  readonly isChecking: boolean;
  readonly check: RepositoryCheck | null;
  /** Why the address or the branch cannot be one. */
  readonly refusal: string | null;
  /** Of the repository, also while another branch is typed. */
  readonly branches: readonly string[];
}

const NOTHING: RepositoryCheckView = { isChecking: false, check: null, refusal: null, branches: [] };

function usePause(text: string): string {
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(text), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return settled;
}

export function useRepositoryCheck(repo: string, base: string): RepositoryCheckView {
  const address = usePause(repo.trim());
  const branch = usePause(base.trim());
  const isWhole = LOOKS_WHOLE.test(address);
  const { data, error, isFetching } = useQuery({
    queryKey: ["repository-check", address, branch],
    queryFn: ({ signal }) =>
      client.repositories.check({ repo: address, ...(branch === "" ? {} : { base: branch }) }, { signal }),
    enabled: isWhole,
    staleTime: FRESH_MS,
  });
  if (!isWhole || address !== repo.trim()) return NOTHING;
  const branches = data?.branches ?? [];
  if (branch !== base.trim()) return { ...NOTHING, isChecking: true, branches };
  // Without a network, or with too many checks, the task itself tells.
  const isRefused = error instanceof SlipwayProblem && error.status === 400;
  const refusal = isRefused ? problemText(error) : null;
  return { isChecking: isFetching, check: data ?? null, refusal, branches };
}

export function PreFlight({ view }: { view: RepositoryCheckView }) {
  const queries = useQueryClient();
  const [isSaving, setSaving] = useState(false);
  const { isChecking, check, refusal } = view;
  const mends = check?.problems.some(({ code }) => CREDENTIAL_CODES.has(code)) === true;
  return (
    <div className="stack" role="status" aria-label="Pre-flight">
      {isChecking && check === null && <p className="hint">Asking whether it can be read and pushed to…</p>}
      {refusal !== null && <Problem message={refusal} said={null} isWarning={false} />}
      {check !== null && check.problems.length === 0 && <Good check={check} />}
      {check?.problems.map(({ code, message, said }) => (
        <Problem key={code} message={message} said={said} isWarning={code === "push_unknown"} />
      ))}
      {mends && (
        <button className="btn line" type="button" onClick={() => setSaving(true)}>
          <Icon name="lock" small />
          Save a credential for {check.host}
        </button>
      )}
      {isSaving && check !== null && (
        <CredentialSheet
          place={check}
          onClose={() => setSaving(false)}
          onSaved={() => queries.invalidateQueries({ queryKey: ["repository-check"] })}
        />
      )}
    </div>
  );
}

function Good({ check }: { check: RepositoryCheck }) {
  const { defaultBranch, forge, canPush } = check;
  const parts = [
    canPush === true ? "Can be read and pushed to" : "Can be read",
    defaultBranch === null ? "" : `starts from ${defaultBranch}`,
    forge === null ? "" : `pull requests on ${forge}`,
  ];
  return (
    <p className="hint good">
      <Icon name="check" small />
      <span>{parts.filter((part) => part !== "").join(", ")}.</span>
    </p>
  );
}

function Problem({ message, said, isWarning }: { message: string; said: string | null; isWarning: boolean }) {
  return (
    <div className={`banner ${isWarning ? "st-retrying" : "st-failed"}`}>
      <Icon name="warn" />
      <span className="grow">
        {message}
        {said !== null && <small className="mono">{said}</small>}
      </span>
    </div>
  );
}
