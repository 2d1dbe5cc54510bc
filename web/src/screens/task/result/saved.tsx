/** Work that was saved from a sandbox whose worker could not: each archive can be downloaded. */
import { queryOptions, useQuery } from "@tanstack/react-query";
import { ResultLine, useAct } from "../../../components/act.tsx";
import { client } from "../../../lib/client.ts";
import { chooseFile } from "../../../lib/device/saving.ts";
import { formatBytes } from "../../../lib/format.ts";
import { ExpiryFact } from "./expiry.tsx";

export const savedQuery = (taskId: string) =>
  queryOptions({ queryKey: ["artifacts", taskId], queryFn: ({ signal }) => client.artifacts(taskId, {}, { signal }) });

/** What is asked for when the task is opened, and stands last among its facts. */
export function LaterFacts({ taskId }: { taskId: string }) {
  return (
    <>
      <Saved taskId={taskId} />
      <ExpiryFact />
    </>
  );
}

function Saved({ taskId }: { taskId: string }) {
  const { run, said, isBusy } = useAct();
  const artifacts = useQuery(savedQuery(taskId));
  const items = artifacts.data?.items ?? [];
  if (items.length === 0) return null;
  /** @returns what is said: nothing when the person chose no place for it. */
  const save = async (name: string): Promise<string> => {
    const write = await chooseFile(`${taskId}-${name}`);
    if (write === null) return "";
    await write(await client.artifact(taskId, name));
    return `${name} is downloaded.`;
  };
  return (
    <>
      <dt>Saved</dt>
      <dd>
        {items.map(({ name, bytes }) => (
          <button
            key={name}
            className="btn line"
            type="button"
            disabled={isBusy}
            onClick={() => void run(() => save(name), { done: (text) => text })}
          >
            Download {name}, {formatBytes(bytes)}
          </button>
        ))}
        <ResultLine said={said} />
      </dd>
    </>
  );
}
