/** For `useQuery`: one task in its newest form. */
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { client } from "../client.ts";
import { putTask } from "./task-list.ts";

export const taskQuery = (id: string) => ({
  queryKey: ["task", id],
  queryFn: async ({ signal }: { signal: AbortSignal }): Promise<WireTask> => {
    const task = await client.task(id, { signal });
    putTask(task);
    return task;
  },
});
