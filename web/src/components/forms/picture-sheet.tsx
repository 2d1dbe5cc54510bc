/** An attached picture as large as the screen lets it be, or pixel by pixel. */
import { useState, type ReactNode } from "react";
import type { Attachment } from "../../../../src/core/values/attachment.ts";
import { formatCount } from "../../lib/format.ts";
import { Sheet } from "../sheet.tsx";

interface PictureSheetProps {
  readonly attachment: Attachment;
  /** The address of the loaded picture. */
  readonly address: string;
  readonly onClose: () => void;
  /** The button that saves it. */
  readonly children: ReactNode;
}

export function PictureSheet({ attachment, address, onClose, children }: PictureSheetProps) {
  const [isActual, setActual] = useState(false);
  const { name, width, height } = attachment;
  return (
    <Sheet title={name} isOpen onClose={onClose}>
      <div className={isActual ? "picture actual" : "picture"} tabIndex={0} role="region" aria-label="Picture">
        <img src={address} alt={name} />
      </div>
      <p className="note num">
        {formatCount(width ?? 0)} × {formatCount(height ?? 0)}
      </p>
      <div className="acts">
        <button className="btn line" type="button" aria-pressed={isActual} onClick={() => setActual(!isActual)}>
          Actual size
        </button>
        {children}
      </div>
    </Sheet>
  );
}
