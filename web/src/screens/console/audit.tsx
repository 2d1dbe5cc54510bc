/** The audit log, for admins: who did what, from where, on what, with which outcome. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { AuditRecord } from "../../../../src/client/types.ts";
import { Bar } from "../../components/bar.tsx";
import { SelectField } from "../../components/forms/fields.tsx";
import { Icon } from "../../components/icon.tsx";
import { PageHead } from "../../components/page-head.tsx";
import { client, problemText } from "../../lib/client.ts";
import { formatDay, formatSecond, pluralize } from "../../lib/format.ts";

const PAGE = 50;
const VIA: Readonly<Record<AuditRecord["via"], string>> = {
  session: "in a session",
  token: "with a token",
  local: "on the machine",
  none: "without a log-in",
  server: "by the server",
};

/** `changeRole` as people read it: change role. */
export const toWords = (action: string): string =>
  action.replace(/([a-z])([A-Z])/g, (_, before: string, after: string) => `${before} ${after.toLowerCase()}`);

/** Empty = of everybody, and everything. */
function useRows(actor: string, action: string) {
  return useInfiniteQuery({
    queryKey: ["audit", actor, action],
    queryFn: ({ signal, pageParam }) =>
      client.people.audit(
        {
          limit: PAGE,
          ...(pageParam === null ? {} : { cursor: pageParam }),
          ...(actor === "" ? {} : { actor }),
          ...(action === "" ? {} : { action }),
        },
        { signal },
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next,
  });
}

export function Audit() {
  const [actor, setActor] = useState("");
  const [action, setAction] = useState("");
  const people = useQuery({ queryKey: ["users"], queryFn: ({ signal }) => client.users({ limit: 200 }, { signal }) });
  const rows = useRows(actor, action);
  const items = rows.data?.pages.flatMap((page) => page.items) ?? [];
  const names = new Map(people.data?.items.map(({ id, email }) => [id, email]));
  return (
    <div className="app has-side">
      <Bar />
      <main className="page" id="main">
        <PageHead title="Audit log" back="/console" />
        <div className="stack">
          <div className="pair">
            <SelectField
              label="Who"
              value={actor}
              options={["", ...names.keys()]}
              names={{ "": "Everybody", ...Object.fromEntries(names) }}
              onChange={setActor}
            />
            <ActionField items={items} action={action} setAction={setAction} />
          </div>
          <Check />
          {rows.error !== null && (
            <p className="banner st-failed" role="alert">
              {problemText(rows.error)}
            </p>
          )}
          {rows.isSuccess && items.length === 0 && <p className="note">Nothing was recorded for this choice.</p>}
          <AuditRows items={items} names={names} />
          {rows.hasNextPage && (
            <button
              className="btn line wide"
              type="button"
              disabled={rows.isFetchingNextPage}
              onClick={() => void rows.fetchNextPage()}
            >
              {rows.isFetchingNextPage ? "Loading…" : "Earlier rows"}
            </button>
          )}
        </div>
      </main>
    </div>
  );
}

interface ActionFieldProps {
  readonly items: readonly AuditRecord[];
  readonly action: string;
  readonly setAction: (action: string) => void;
}

/** Offers the actions of the rows that were seen. */
function ActionField({ items, action, setAction }: ActionFieldProps) {
  const [seen, setSeen] = useState<ReadonlySet<string>>(new Set());
  const fresh = items.filter((row) => !seen.has(row.action));
  if (fresh.length > 0) setSeen(new Set([...seen, ...fresh.map((row) => row.action)]));
  const options = [...seen].toSorted();
  return (
    <SelectField
      label="What"
      value={action}
      options={["", ...options]}
      names={{ "": "Everything", ...Object.fromEntries(options.map((name) => [name, toWords(name)])) }}
      onChange={setAction}
    />
  );
}

function Check() {
  const { data, error, isFetching, refetch } = useQuery({
    queryKey: ["audit-check"],
    queryFn: ({ signal }) => client.people.checkAudit({ signal }),
    enabled: false,
  });
  const said =
    data === undefined
      ? ""
      : data.ok
        ? `${pluralize(data.rows, "row")} checked: none was changed, removed or moved.`
        : `The log was changed: ${data.fault ?? "a row does not fit"}.`;
  return (
    <div className="acts tight">
      <button className="btn line" type="button" disabled={isFetching} onClick={() => void refetch()}>
        <Icon name="shield" small />
        {isFetching ? "Checking…" : "Check the log"}
      </button>
      <span className={data?.ok === false || error !== null ? "hint bad" : "note"} role="status">
        {error === null ? said : problemText(error)}
      </span>
    </div>
  );
}

function AuditRows({ items, names }: { items: readonly AuditRecord[]; names: ReadonlyMap<string, string> }) {
  return (
    <ul className="rows set trail">
      {items.map((row) => {
        const at = Date.parse(row.at);
        const isGood = row.outcome === "ok";
        const detail = Object.entries(row.detail).map(([name, value]) => `${name} ${value}`);
        const who = row.actor === null ? "Somebody unknown" : (names.get(row.actor) ?? row.actor);
        const target = row.target === null ? "" : `on ${names.get(row.target) ?? row.target}`;
        return (
          <li key={row.n} className={isGood ? "" : "st-failed"}>
            <Icon name={isGood ? "check" : "warn"} className="state-ic" />
            <span>
              <b>{toWords(row.action)}</b>
              {!isGood && <span className="bad"> {row.outcome.replaceAll("_", " ")}</span>}
              <small>
                {[who, VIA[row.via], row.address === "" ? "" : `from ${row.address}`].filter(Boolean).join(", ")}
              </small>
              {target + detail.join("") !== "" && <small>{[target, ...detail].filter(Boolean).join(", ")}</small>}
            </span>
            <span className="note num">
              {formatDay(at)} {formatSecond(at)}
            </span>
          </li>
        );
      })}
    </ul>
  );
}
