/** A picture as large as the screen lets it be, or pixel by pixel. */
import { useState, type ReactNode } from "react";
import { formatCount } from "../../lib/format.ts";
import { Sheet } from "../sheet.tsx";

interface PictureSheetProps {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  /** The address of the loaded picture. */
  readonly address: string;
  readonly onClose: () => void;
  /** More buttons. */
  readonly children?: ReactNode;
}

export function PictureSheet({ name, width, height, address, onClose, children }: PictureSheetProps) {
  const [isActual, setActual] = useState(false);
  return (
    <Sheet title={name} isOpen onClose={onClose}>
      <div className={isActual ? "picture actual" : "picture"} tabIndex={0} role="region" aria-label="Picture">
        <img src={address} alt={name} />
      </div>
      <p className="note num">
        {formatCount(width)} × {formatCount(height)}
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
