/** Loads the pictures of a changed file with the session, and shows them. */
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import type { DiffContentQuery, DiffFile } from "../../../../../../src/client/types.ts";
import { client, problemText } from "../../../../lib/client.ts";
import { useTaskView } from "../../task-screen.tsx";
import { useLast } from "./use-last.ts";
import { Picture, PictureCompare, type Side } from "./picture-compare.tsx";

interface PicturesProps {
  readonly file: DiffFile;
  readonly name: string;
}

export function Pictures({ file, name }: PicturesProps) {
  const { before = null, after = null } = file.sizes ?? {};
  const old = useSide(file, "before", before);
  const now = useSide(file, "after", after);
  const error = old.error ?? now.error;
  if (error !== null && [old, now].some(({ side }) => side !== null && side.address === null))
    return <p className="folded hint bad">{problemText(error)}</p>;
  if (old.side !== null && now.side !== null) return <PictureCompare name={name} before={old.side} after={now.side} />;
  return (
    <div className="imgdiff">
      {old.side !== null && <Picture word="before" name={name} side={old.side} />}
      {now.side !== null && <Picture word="after" name={name} side={now.side} />}
    </div>
  );
}

interface Loaded {
  /** Null = the file is not there on this side. */
  readonly side: Side | null;
  readonly error: Error | null;
}

/** @param bytes of the file on this side, if it is there. */
function useSide({ path }: DiffFile, side: NonNullable<DiffContentQuery["side"]>, bytes: number | null): Loaded {
  const { task } = useTaskView();
  const { data: newest, error } = useQuery({
    queryKey: ["diff-content", task.id, path, side, task.headSha, bytes],
    queryFn: async ({ signal }) =>
      await new Response(await client.diffContent(task.id, { path, side }, { signal })).blob(),
    enabled: bytes !== null,
  });
  const data = useLast(newest);
  const [address, setAddress] = useState<string | null>(null);
  useEffect(() => {
    if (data === undefined) return;
    const made = URL.createObjectURL(data);
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [data]);
  return { side: bytes === null ? null : { address, bytes }, error };
}
