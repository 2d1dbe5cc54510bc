/**
 * The last line of a terminal: a spinner and what goes on now. On anything but a terminal it is
 * nothing at all.
 */
const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

export interface Spinner {
  /** Prints a line above the status. */
  line(text: string): void;
  close(): void;
}

export interface SpinnerStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const CLEAR = "\r\u001b[2K";

/** @param words what to show now; asked ten times per second at most. */
export function openSpinner(stream: SpinnerStream, words: (columns: number) => string): Spinner {
  if (stream.isTTY !== true) {
    return { line: (text) => void stream.write(`${text}\n`), close: () => undefined };
  }
  let frame = 0;
  let open = true;
  const draw = (): void => {
    const columns = stream.columns || 80;
    const spin = FRAMES[frame++ % FRAMES.length] ?? "";
    stream.write(`${CLEAR}${spin} ${words(columns)}`);
  };
  const timer = setInterval(draw, 100);
  return {
    line(text) {
      stream.write(`${open ? CLEAR : ""}${text}\n`);
      if (open) draw();
    },
    close() {
      if (!open) return;
      open = false;
      clearInterval(timer);
      stream.write(CLEAR);
    },
  };
}
