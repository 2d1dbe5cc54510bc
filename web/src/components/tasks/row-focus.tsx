/**
 * The rows of a list. A row that changes its group is made anew: the focus that it, or a button of
 * it, had goes with its task, and the list is not scrolled.
 */
import { Component, type ReactNode } from "react";

const ROW = "a[data-id]";

export class RowFocus extends Component<{ readonly children: ReactNode }> {
  override getSnapshotBeforeUpdate(): string | null {
    return document.activeElement?.closest("li")?.querySelector<HTMLElement>(ROW)?.dataset["id"] ?? null;
  }

  override componentDidUpdate(_props: unknown, _state: unknown, id: string | null): void {
    if (id === null || document.activeElement !== document.body) return;
    document.querySelector<HTMLElement>(`${ROW}[data-id="${id}"]`)?.focus({ preventScroll: true });
  }

  override render(): ReactNode {
    return this.props.children;
  }
}
