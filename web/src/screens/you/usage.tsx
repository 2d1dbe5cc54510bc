/** What a person uses of their quotas. */
import { useQuery } from "@tanstack/react-query";
import type { Usage } from "../../../../src/client/types.ts";
import { client, problemText } from "../../lib/client.ts";
import { formatBytes, formatCount, formatUsd } from "../../lib/format.ts";

const MIB = 2 ** 20;
const withLimit = (used: string, limit: string | null): string => (limit === null ? used : `${used} of ${limit}`);
const count = (used: number, limit: number | null): string =>
  withLimit(formatCount(used), limit === null ? null : formatCount(limit));
const dollars = (used: number, limit: number | null): string =>
  withLimit(formatUsd(used), limit === null ? null : formatUsd(limit));

const KINDS: readonly (readonly [kind: Exclude<keyof Usage["storage"], "total">, name: string])[] = [
  ["mirrors", "copies of repositories"],
  ["repositories", "work of tasks"],
  ["artifacts", "saved work"],
  ["attachments", "attachments"],
  ["transcripts", "conversations"],
];

/** The largest parts, in words. */
function describeStored(storage: Usage["storage"]): string {
  const parts = KINDS.filter(([kind]) => storage[kind] > 0).toSorted(([a], [b]) => storage[b] - storage[a]);
  const text = parts.map(([kind, name]) => `${name} ${formatBytes(storage[kind])}`).join(", ");
  return text === "" ? "Nothing is stored." : `${text}.`;
}

export function UsageSection({ userId, title }: { userId: string; title: string }) {
  const { data, error } = useQuery({
    queryKey: ["usage", userId],
    queryFn: async ({ signal }) => (await client.people.usage({ user: userId }, { signal })).items[0] ?? null,
  });
  if (error !== null && data === undefined)
    return (
      <p className="hint bad" role="alert">
        {problemText(error)}
      </p>
    );
  if (data === undefined || data === null) return null;
  const { tasks, usd, storage, quotas } = data;
  const rows = [
    ["Open tasks", count(tasks.open, quotas.openTasks), ""],
    ["Tasks in 24 hours", count(tasks.day, quotas.tasksPerDay), ""],
    ["Models today", dollars(usd.day, quotas.dayUsd), ""],
    ["Models this month", dollars(usd.month, quotas.monthUsd), ""],
    [
      "Stored",
      withLimit(formatBytes(storage.total), quotas.storageMb === null ? null : formatBytes(quotas.storageMb * MIB)),
      describeStored(storage),
    ],
  ] as const;
  return (
    <section aria-label={title}>
      <h2 className="over">{title}</h2>
      <ul className="rows set">
        {rows.map(([name, used, note]) => (
          <li key={name}>
            <span>
              <b>{name}</b>
              <small>
                {used}
                {note === "" ? "" : `: ${note}`}
              </small>
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}
