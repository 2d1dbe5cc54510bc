/**
 * The last line of a terminal: a spinner and the current activity. Silent when not on a terminal.
 */
const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

export interface Spinner {
  /** Prints a line above the spinner. */
  line(text: string): void;
  close(): void;
}

export interface SpinnerStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const CLEAR = "\r\u001b[2K";

/** @param render returns the text to show; called at most ten times per second. */
export function openSpinner(stream: SpinnerStream, render: (columns: number) => string): Spinner {
  if (stream.isTTY !== true) {
    return { line: (text) => void stream.write(`${text}\n`), close: () => undefined };
  }
  let frame = 0;
  let open = true;
  const draw = (): void => {
    const columns = stream.columns || 80;
    const spin = FRAMES[frame++ % FRAMES.length] ?? "";
    stream.write(`${CLEAR}${spin} ${render(columns)}`);
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
