/** A file that is no text: its pictures before and after the change, or its sizes. */
import { useState } from "react";
import type { DiffFile } from "../../../../../../src/client/types.ts";
import { formatBytes } from "../../../../lib/format.ts";
import { Pictures } from "./pictures.tsx";

/** Largest picture that the server sends, bytes. */
const LARGEST_BYTES = 10 * 2 ** 20;
/** Most bytes of both pictures that are loaded without a tap. */
const LOADED_BYTES = 2 ** 20;
const PICTURE = /\.(?:png|jpe?g|gif|webp)$/i;

interface BinaryFileProps {
  readonly file: DiffFile;
  readonly name: string;
}

export function BinaryFile({ file, name }: BinaryFileProps) {
  const { before = null, after = null } = file.sizes ?? {};
  const bytes = (before ?? 0) + (after ?? 0);
  const [isWanted, setWanted] = useState(bytes <= LOADED_BYTES);
  const isPicture = PICTURE.test(file.path) && bytes > 0 && Math.max(before ?? 0, after ?? 0) <= LARGEST_BYTES;
  if (!isPicture) return <p className="folded note">A binary file.</p>;
  if (isWanted) return <Pictures file={file} name={name} />;
  return (
    <p className="folded">
      <button className="btn line" type="button" onClick={() => setWanted(true)}>
        Show the pictures, {formatBytes(bytes)}
      </button>
    </p>
  );
}
