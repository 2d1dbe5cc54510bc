/** When the task is deleted for its age, and the way to keep it. */
import { useQuery, useQueryClient, type QueryClient } from "@tanstack/react-query";
import { ResultLine, useAct } from "../../../components/act.tsx";
import { client, configQuery } from "../../../lib/client.ts";
import { usePerson } from "../../../lib/session.ts";
import { mayDirect } from "../../../lib/tasks/ownership.ts";
import { useTaskView } from "../task-screen.tsx";

const DAY_MS = 24 * 60 * 60_000;

const keptQuery = (taskId: string) => ({
  queryKey: ["kept", taskId],
  queryFn: ({ signal }: { signal: AbortSignal }) => client.isTaskKept(taskId, { signal }),
});

export async function prepareExpiry(queries: QueryClient, taskId: string): Promise<void> {
  const { tasksExpireDays } = await queries.ensureQueryData(configQuery);
  if (tasksExpireDays !== null) await queries.ensureQueryData(keptQuery(taskId));
}

/** Nothing where tasks do not expire. */
export function ExpiryFact() {
  const { task } = useTaskView();
  const person = usePerson();
  const queries = useQueryClient();
  const config = useQuery(configQuery);
  const days = config.data?.tasksExpireDays ?? null;
  const query = keptQuery(task.id);
  const kept = useQuery({ ...query, enabled: days !== null });
  const { run, said, isBusy } = useAct();
  if (days === null || kept.data === undefined || task.settledAt === null) return null;
  const { keep } = kept.data;
  const end = new Date(Date.parse(task.settledAt) + days * DAY_MS);

  const turn = (): void =>
    void run(async () => queries.setQueryData(query.queryKey, await client.keepTask(task.id, !keep)));

  return (
    <>
      <dt>Stays</dt>
      <dd>
        {keep ? "until somebody deletes it" : `until ${end.toLocaleDateString("en", { dateStyle: "medium" })}`}{" "}
        {mayDirect(task, person) && (
          <button className="btn line" type="button" disabled={isBusy} onClick={turn}>
            {keep ? "Let it expire" : "Keep it"}
          </button>
        )}
        <ResultLine said={said} />
      </dd>
    </>
  );
}
