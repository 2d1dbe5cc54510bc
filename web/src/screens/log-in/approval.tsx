/** The two answers to a program or a phone that asks to be logged in. */
interface ApprovalProps {
  readonly isBusy: boolean;
  readonly onDecide: (allow: boolean) => void;
  /** What to look at before the answer. */
  readonly note: string;
}

export function Approval({ isBusy, onDecide, note }: ApprovalProps) {
  return (
    <>
      <div className="acts">
        <button className="btn primary" type="button" disabled={isBusy} onClick={() => onDecide(true)}>
          Approve
        </button>
        <button className="btn line" type="button" disabled={isBusy} onClick={() => onDecide(false)}>
          Refuse
        </button>
      </div>
      <p className="note">{note}</p>
    </>
  );
}
