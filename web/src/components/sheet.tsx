/** A sheet on the native dialog: focus stays inside, Escape and the scrim close it. */
import { useEffect, useLayoutEffect, useRef, type ReactNode } from "react";
import { Icon } from "./icon.tsx";

interface ModalProps {
  readonly label: string;
  readonly className?: string;
  readonly isOpen: boolean;
  readonly onClose: () => void;
  readonly children: ReactNode;
}

export function Modal({ label, className, isOpen, onClose, children }: ModalProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    if (element === null) return;
    if (isOpen && !element.open) element.showModal();
    if (!isOpen && element.open) element.close();
  }, [isOpen]);
  // A dialog that is removed gives the focus back only if it was closed before.
  useLayoutEffect(() => {
    const element = dialog.current;
    return () => element?.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      className={className}
      aria-label={label}
      // The close event comes after the end, when a next press may have opened it again.
      onCancel={(event) => {
        if (event.target === event.currentTarget) onClose();
      }}
      onClose={(event) => {
        if (!event.currentTarget.open) onClose();
      }}
      onClick={(event) => {
        if (event.target === event.currentTarget) onClose();
      }}
    >
      {children}
    </dialog>
  );
}

interface SheetProps {
  readonly title: string;
  readonly isOpen: boolean;
  readonly onClose: () => void;
  readonly children: ReactNode;
}

export function Sheet({ title, isOpen, onClose, children }: SheetProps) {
  return (
    <Modal label={title} isOpen={isOpen} onClose={onClose}>
      {isOpen && (
        <div className="sheet">
          <div className="sheet-head">
            <h2 tabIndex={-1}>{title}</h2>
            <button className="iconbtn" type="button" aria-label="Close" onClick={onClose}>
              <Icon name="close" />
            </button>
          </div>
          {children}
        </div>
      )}
    </Modal>
  );
}
