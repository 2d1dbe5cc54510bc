/** Work that was saved from a sandbox whose worker could not: each archive can be downloaded. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { client, problemText } from "../../../lib/client.ts";
import { chooseFile } from "../../../lib/device/saving.ts";
import { formatBytes } from "../../../lib/format.ts";
import { ExpiryFact } from "./expiry.tsx";

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
  const [problem, setProblem] = useState<string | null>(null);
  const artifacts = useQuery({
    queryKey: ["artifacts", taskId],
    queryFn: ({ signal }) => client.artifacts(taskId, {}, { signal }),
  });
  const items = artifacts.data?.items ?? [];
  if (items.length === 0) return null;
  const download = async (name: string): Promise<void> => {
    setProblem(null);
    try {
      const save = await chooseFile(`${taskId}-${name}`);
      if (save !== null) await save(await client.artifact(taskId, name));
    } catch (thrown) {
      setProblem(problemText(thrown));
    }
  };
  return (
    <>
      <dt>Saved</dt>
      <dd>
        {items.map(({ name, bytes }) => (
          <button key={name} className="btn line" type="button" onClick={() => void download(name)}>
            Download {name}, {formatBytes(bytes)}
          </button>
        ))}
        {problem !== null && (
          <span className="hint bad" role="alert">
            {problem}
          </span>
        )}
      </dd>
    </>
  );
}
